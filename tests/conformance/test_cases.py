import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from innaprop_conformance.cases import (
    CASES,
    FAMILIES,
    Case,
    Event,
    Gap,
    Gradients,
    Group,
    Hyperparameters,
    Schedule,
    few,
    flat,
    select,
    some,
)
from innaprop_conformance.cases.dtypes import STORAGE, judged_as, stored_as
from innaprop_conformance.cases.events import KINDS as EVENTS
from innaprop_conformance.cases.events import REPEATS, WAYS
from innaprop_conformance.cases.values import KINDS, STARTS, rounded

PRESETS = FAMILIES["presets"].values()


def test_every_family_has_cases_and_every_case_its_family():
    assert list(FAMILIES) == [
        "presets",
        "corners",
        "schedules",
        "gradients",
        "shapes",
        "alike parameters",
        "many parameters",
        "large parameters",
        "long runs",
        "counts",
        "missing gradients",
        "groups",
        "decay",
        "spared momentum",
        "all bits",
        "special values",
        "precision",
        "mixed dtypes",
        "events",
        "ways",
        "repeats",
    ]
    for family, cases in FAMILIES.items():
        assert cases
        assert all(case.family == family for case in cases.values())
    assert sum(map(len, FAMILIES.values())) == len(CASES)
    assert all(name == case.name for name, case in CASES.items())


def test_the_presets_have_both_presets_decay_and_all_schedules():
    dampings = {(c.group.hyperparameters.alpha, c.group.hyperparameters.beta) for c in PRESETS}
    assert {(0.1, 0.9), (2.0, 2.0)} < dampings
    assert len(dampings) >= 5
    assert {c.group.hyperparameters.weight_decay > 0 for c in PRESETS} == {False, True}
    assert {c.group.gamma.kind for c in PRESETS} == {"constant", "cosine", "steps"}


def test_the_corners_are_reached():
    values = [case.group.hyperparameters for case in FAMILIES["corners"].values()]
    assert any(h.alpha == 0 for h in values)
    assert any(h.alpha * h.beta == 1 for h in values)
    assert any(h.gamma < h.beta < 1.001 * h.gamma for h in values)
    assert any(h.eps == 0 for h in values)
    assert any(h.sigma == 0 for h in values)


def test_gradients_shapes_lengths_and_dtypes_are_reached():
    cases = CASES.values()
    assert {case.gradients.kind for case in cases} == set(KINDS)
    ranks = {len(shape) for case in cases for shape in case.shapes}
    assert {0, 5} <= ranks
    sizes = {int(np.prod(shape)) for case in cases for shape in case.shapes}
    assert 0 in sizes
    assert max(sizes) > 2**21
    assert {257, 1025} <= {len(case.shapes) for case in cases}
    assert max(case.steps for case in cases) > 2**16
    assert {d for c in cases for d in c.dtypes} == {"float32", "float64", "bfloat16", "float16"}
    assert {g.dtype for c in cases for g in c.groups} > {"float64", "float16+residual"}
    assert {case.start for case in cases} == set(STARTS)
    assert {case.values for case in cases} == {"bfloat16", "float32", "float64"}
    assert {2**15, 2**16, 2**24} <= {
        power
        for case in cases
        for power in (2**15, 2**16, 2**24)
        if case.counted < power < case.counted + case.steps
    }


def test_every_event_way_and_repeat_is_in_a_case():
    cases = CASES.values()
    assert {event.kind for case in cases for event in case.events} == set(EVENTS)
    assert {case.way for case in cases} == {"", *WAYS}
    assert {repeat for case in cases for repeat in case.repeats} == set(REPEATS)


def test_alike_parameters_are_told_apart_by_their_values_alone():
    for case in FAMILIES["alike parameters"].values():
        assert max(case.shapes.count(shape) for shape in case.shapes) > 2
        values = [p.tobytes() for p in case.parameters()]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda c: c.name)
def test_a_case_is_data(case):
    again = Case.from_json(case.to_json())
    assert again == case
    assert hash(again) == hash(case)


def test_json_that_is_no_case_is_refused():
    with pytest.raises(TypeError):
        Case.from_json('{"name": "x", "groups": [], "gradients": {}, "gaps": [], "dtypes": []}')
    with pytest.raises(ValueError, match="kind must be one of constant"):
        Case.from_json(CASES["schedule,pause,fast"].to_json().replace("pause", "paws"))


def some_values(case):
    stream = case.stream()
    arrays = [*case.parameters(), *(g for _ in range(2) for g in next(stream) if g is not None)]
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]


# If one of these has to be changed, the case's values have changed: raise the case's version.
HASHES = {
    "alpha=0.1,beta=0.9,decay=0.1,cosine": "65a19269781e6a70",
    "corner,no-eps": "2d96a8c87e3e1834",
    "gradients,heavy-tailed": "e7ae916c8e2a84b7",
    "gradients,flipping": "4bdf4b882ab14b7e",
    "gradients,wide": "3dc9e7a38223d909",
    "gradients,sparse": "e0d0ffc98a2ac913",
    "gaps,fast": "7286a6362cbb1eae",
    "precision,accurate": "9a42ca7baaa36f23",
}


@pytest.mark.parametrize(("name", "expected"), HASHES.items())
def test_values_stay_what_they_are(name, expected):
    assert some_values(CASES[name]) == expected


@pytest.mark.parametrize("change", [{"seed": 1}, {"version": 2}, {"name": "another"}])
def test_name_version_and_seed_make_the_values(change):
    case = CASES["corner,no-eps"]
    assert some_values(replace(case, **change)) != some_values(case)


def test_another_process_makes_the_same_values():
    case = CASES["alpha=0.1,beta=0.9,decay=0.1,cosine"]
    code = (
        "import sys\n"
        "from innaprop_conformance.cases import Case, flat\n"
        "case = Case.from_json(sys.argv[1])\n"
        "print(flat(case.parameters()).sum().hex(), flat(next(case.stream())).sum().hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, case.to_json()], check=True, capture_output=True, text=True
    )
    ours = flat(case.parameters()).sum().hex(), flat(next(case.stream())).sum().hex()
    assert tuple(done.stdout.split()) == ours


@pytest.mark.parametrize(
    "case", [c for c in CASES.values() if c.steps < 1000], ids=lambda c: c.name
)
def test_every_dtype_of_a_case_holds_its_values(case):
    stream = [flat([*filter_none(gradients), np.zeros(0)]) for gradients in case.stream()]
    for values in (flat(case.parameters()), np.concatenate(stream)):
        assert np.isfinite(values).all() or case.gradients.kind == "broken"
        for dtype in {case.values, *filter(case.takes, STORAGE)}:
            np.testing.assert_array_equal(values, rounded(values, stored_as(dtype)))


@pytest.mark.parametrize("case", FAMILIES["all bits"].values(), ids=lambda c: c.name)
def test_all_bits_are_used(case):
    (dtype,) = case.dtypes
    smaller = {"float32": "bfloat16", "float64": "float32"}[dtype]
    values = np.concatenate([flat(case.parameters()), flat(next(case.stream()))])
    nonzero = values[values != 0]
    assert (nonzero != rounded(nonzero, smaller)).mean() > 0.99
    # The last bit is set about half of the time.
    last = nonzero.astype(dtype).view({"float32": "u4", "float64": "u8"}[dtype]) & 1
    assert 0.3 < last.mean() < 0.7


def test_values_that_a_dtype_does_not_hold_are_refused():
    case = CASES["bits,float32,fast"]
    with pytest.raises(ValueError, match="dtypes must hold float32 values exactly, got bfloat16"):
        replace(case, dtypes=("float32", "bfloat16"))
    with pytest.raises(ValueError, match="values must be of bfloat16, float32, float64, got 'f'"):
        replace(case, values="f")


def test_what_a_case_is_followed_in():
    assert [d for d in STORAGE if CASES["alike,fast"].takes(d)] == [
        "float32",
        "float64",
        "bfloat16+residual",
    ]
    assert {d for d in STORAGE if CASES["precision,fast"].takes(d)} == set(STORAGE)
    assert [d for d in STORAGE if CASES["bits,float32,fast"].takes(d)] == ["float32"]
    assert judged_as("bfloat16+residual") == "float32"
    assert judged_as("float16+residual") == "float16+residual"
    assert judged_as("bfloat16") == "bfloat16"


def test_of_what_repeats_the_extremes_are_judged():
    case = replace(CASES["large,several"], period=3)
    array = np.array([1.0, 2, 3, 1, 2, 3, 7, -2])
    (picked,) = case.picked([array])
    assert picked.tolist() == [1, -2, 3, 7, 2, 3]
    assert [p.tolist() for p in case.picked([array[:3]])] == [[1, 2, 3]]
    (broken,) = case.picked([np.array([1, 2, 3, np.nan, 2, 3])])
    assert np.isnan(broken[[0, 3]]).all()
    for parameter in CASES["large,several"].parameters():
        elements = parameter.ravel()
        np.testing.assert_array_equal(elements[251:], elements[:-251])


def test_only_the_elements_that_are_said_to_be_are_no_numbers():
    case = CASES["special,broken,fast"]
    for updates, gradients in enumerate(case.stream()):
        for gradient in filter_none(gradients):
            broken = np.flatnonzero(~np.isfinite(gradient.ravel())).tolist()
            last = gradient.size - 1
            places = {2: [1], 4: [last]}.get(updates, []) if gradient.size > 2 else []
            assert broken == places


def test_rows_are_zero_as_a_whole_or_not_at_all():
    gradients = next(CASES["way,sparse-gradients"].stream())
    for gradient in filter_none(gradients):
        zero = (gradient.reshape(len(gradient), -1) == 0).all(axis=1)
        assert 0 < zero.sum() < len(gradient)
        assert (gradient[~zero] != 0).all()


@pytest.mark.parametrize("case", PRESETS, ids=lambda c: c.name)
def test_the_gradients_of_the_presets_span_twelve_decades(case):
    gradients = np.array([flat(g) for g in case.stream()])
    assert 0.05 < (gradients == 0).mean() < 0.15
    magnitudes = np.abs(gradients).mean(axis=0)
    assert magnitudes.min() < 1e-6
    assert magnitudes.max() > 1e2
    assert gradients.shape == (case.steps, sum(p.size for p in case.parameters()))


def test_no_squared_gradient_leaves_float32_where_float32_is_asked():
    for case in CASES.values():
        if "float32" in case.dtypes and case.steps < 1000 and case.gradients.kind != "broken":
            stream = map(filter_none, case.stream())
            largest = max(np.abs(flat([*g, np.zeros(0)])).max(initial=0) for g in stream)
            assert largest**2 < 1e38, case.name


def filter_none(arrays):
    return [a for a in arrays if a is not None]


def kinds(kind, steps=200):
    rng = np.random.default_rng(0)
    return np.array([flat(g) for g in Gradients(kind, -2, 2).stream(rng, ((50,),), steps)])


def test_kinds_of_gradients():
    assert (kinds("nonzero") != 0).all()
    assert 0.93 < (kinds("sparse") == 0).mean() < 0.97
    assert (kinds("zero") == 0).all()
    flipping = kinds("flipping")
    assert (np.sign(flipping[1:]) == -np.sign(flipping[:-1])).mean() > 0.99
    heavy = np.abs(kinds("heavy"))
    assert heavy.max() > 100 * np.median(heavy)
    wide = np.abs(kinds("wide"))
    assert wide.min(axis=0).max() < 1e-1
    assert wide.max(axis=0).min() > 1e1


def test_gaps_are_where_they_are_said_to_be():
    case = Case(
        "gaps",
        "missing gradients",
        (Group(Hyperparameters(), ((2,), (3,))),),
        5,
        gaps=(Gap(0, 1, 3), Gap(1, 0, 1)),
    )
    missing = [[g is None for g in gradients] for gradients in case.stream()]
    assert missing == [
        [False, True],
        [True, False],
        [True, False],
        [False, False],
        [False, False],
    ]
    for other in FAMILIES["missing gradients"].values():
        assert all(any(g is not None for g in gradients) for gradients in other.stream())


def test_cosine_warms_up_to_its_peak_and_comes_down_near_zero():
    schedule = Schedule("cosine", 1e-2, 300)
    rates = [schedule(updates) for updates in range(300)]
    assert rates[0] == pytest.approx(1e-2 / 30)
    assert max(rates) == rates[30] == rates[29] == 1e-2
    assert 0 < rates[-1] < 1e-6


def test_steps_divides_by_ten_after_each_third():
    schedule = Schedule("steps", 3e-3, 300)
    assert [schedule(updates) for updates in (0, 99, 100, 199, 200, 299)] == pytest.approx(
        [3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5]
    )


def test_the_other_schedules():
    linear = Schedule("linear", 2.0, 100, 1.0)
    assert [linear(updates) for updates in (0, 50, 100)] == [2.0, 1.5, 1.0]
    restarts = Schedule("restarts", 1.0, 100)
    assert [restarts(updates) for updates in (0, 25, 50, 75)] == [1.0] * 4
    assert restarts(24) < 0.01
    pause = Schedule("pause", 1.0, 100)
    assert [pause(updates) for updates in (24, 25, 49, 50)] == [1.0, 0.0, 0.0, 1.0]


def test_what_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match="kind must be one of constant, linear"):
        Schedule("sine", 1.0, 10)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        Schedule("linear", 1.0, 0)
    with pytest.raises(ValueError, match="alpha must have a schedule of kind constant or linear"):
        Group(Hyperparameters(), ((),), alpha=Schedule("steps", 1.0, 10))
    with pytest.raises(ValueError, match="kind must be one of normal"):
        Gradients("loud")


def test_events_are_what_they_have_to_be():
    with pytest.raises(ValueError, match=r"kind must be one of reload, .*, got 'explode'"):
        Event("explode", 1)
    with pytest.raises(ValueError, match="parameter must be given for add and replace"):
        Event("add", 1)
    with pytest.raises(ValueError, match="parameter must be given for add and replace"):
        Event("copy", 1, 2)
    with pytest.raises(ValueError, match="values must be given for change"):
        Event("change", 1)
    case = CASES["event,reload"]
    with pytest.raises(ValueError, match=r"way must be one of defaults, .*, got 'by hand'"):
        replace(case, way="by hand")
    with pytest.raises(ValueError, match="repeats must be of again, "):
        replace(case, repeats=("twice",))
    with pytest.raises(ValueError, match="start must be one of normal, zero, half zero, got 'one'"):
        replace(case, start="one")


def test_what_is_added_or_skipped_has_no_gradient():
    added = [[g is None for g in gradients] for gradients in CASES["event,add"].stream()]
    assert [row[1] for row in added] == [True] * 4 + [False] * 10
    assert [row[3] for row in added] == [True] * 8 + [False] * 6
    skipped = [{g is None for g in gradients} for gradients in CASES["way,loss-scaling"].stream()]
    assert [updates for updates, row in enumerate(skipped) if row == {True}] == [3, 7]


def test_changed_options_hold_from_their_update_on():
    case = CASES["event,change,and-reload"]
    numbers = [case.numbers(0, updates, updates) for updates in range(case.steps)]
    assert [n["alpha"] for n in numbers] == [0.3] * 4 + [1.5] * 10
    assert [n["beta"] for n in numbers] == [0.8] * 8 + [2.5] * 6


def test_subsets_reach_every_family():
    beyond = {
        "long runs", "counts", "many parameters", "large parameters", "mixed dtypes", "events",
        "ways", "repeats",
    }  # fmt: skip
    assert {case.family for case in few().values()} == set(FAMILIES) - beyond
    assert {case.family for case in some().values()} == set(FAMILIES)
    assert few().keys() < some().keys() < CASES.keys()


def test_selecting_families_and_a_seed():
    chosen = select(("groups", "long runs"), seed=3)
    assert chosen.keys() == FAMILIES["groups"].keys() | FAMILIES["long runs"].keys()
    assert {case.seed for case in chosen.values()} == {3}
    with pytest.raises(ValueError, match="'group' is not one of presets"):
        select(("group",))
