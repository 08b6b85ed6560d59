"""Runs with right numbers fail if they modify inputs, share memory or are not reproducible."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from innaprop_conformance.backends import (
    FEATURES,
    BrokenPromiseError,
    SteppingBackend,
    load_backend,
)
from innaprop_conformance.backends.numpy import NumPyBackend
from innaprop_conformance.backends.protocol import followed
from innaprop_conformance.cases import CASES, Event
from innaprop_conformance.judge import judge
from innaprop_conformance.truth import find_truth

PLAIN = replace(CASES["alike,fast"], steps=6)


class ChangesGradients(NumPyBackend):
    def step(self, gradients, gammas):
        super().step(gradients, gammas)
        given, _, _ = self._watched["gradient 2"]
        given.ravel()[3] += 1e-7


class ChangesInitialValues(NumPyBackend):
    def step(self, gradients, gammas):
        super().step(gradients, gammas)
        given, _, _ = self._watched["initial parameter 5"]
        given[...] = self._optimizer.parameters[5]


class TakesStateOver(NumPyBackend):
    """Keeps the arrays of a state that it is given, and modifies them."""

    def step(self, gradients, gammas):
        super().step(gradients, gammas)
        for name, (given, _, _) in self._watched.items():
            if name == "array 0 of the state":
                given += self._optimizer.m[0]


class Drifts(NumPyBackend):
    """The second run of a case differs by one unit in the last place."""

    runs = 0

    def parameters(self):
        first, *rest = super().parameters()
        return [np.nextafter(first, np.float32(np.inf)) if self.runs == 2 else first, *rest]

    def begin(self, case, dtype):
        super().begin(case, dtype)
        self.runs += 1


@pytest.mark.parametrize(
    ("backend", "case", "reason"),
    [
        (ChangesGradients, PLAIN, "update 1 has changed gradient 2"),
        (ChangesInitialValues, PLAIN, "update 1 has changed initial parameter 5"),
        (
            TakesStateOver,
            CASES["event,hand-over"],
            "update 6 has changed array 0 of the state",
        ),
        (Drifts, CASES["repeat,fast"], "differs from the repeated run (again) at update 1"),
    ],
)
def test_a_broken_promise_fails_a_run_whose_numbers_are_right(backend, case, reason):
    assert followed(NumPyBackend(), case, "float32")[1] is None
    theta, told = followed(backend(), case, "float32")
    assert told == reason
    verdict = judge(case.name, "float32", theta, find_truth(case), told)
    assert not verdict.passed
    assert verdict.reason == reason
    assert verdict.tolerance_used < 1


def test_the_exception_has_the_numbers():
    with pytest.raises(BrokenPromiseError) as caught:
        ChangesGradients().follow(PLAIN, "float32")
    np.testing.assert_array_equal(caught.value.theta, NumPyBackend().follow(PLAIN, "float32"))


class Loses(NumPyBackend):
    """Loses a part of the state at an event."""

    def __init__(self, kind, lose):
        self._kind, self._lose = kind, lose

    def happen(self, event):
        old = copy.deepcopy(self._optimizer)
        super().happen(event)
        if event.kind == self._kind:
            self._lose(self._optimizer, old)


def _momentum(new, old):
    new._m = [np.zeros_like(m) for m in new._m]


def _count(new, old):
    new.k = 0


def _second_moment_of_one(new, old):
    new._v[1] = new._v[0]


def _shares(new, old):
    new._m = [m * 1.01 for m in old._m]


@pytest.mark.parametrize("kind", ["portable reload", "hand over", "copy", "pickle"])
@pytest.mark.parametrize("lose", [_momentum, _count, _second_moment_of_one, _shares])
def test_what_an_event_loses_is_seen(kind, lose):
    case = CASES[f"event,{kind.replace(' ', '-')}"]
    theta, reason = followed(Loses(kind, lose), case, "float32")
    assert reason is not None
    assert reason.startswith("differs from the repeated run (without events) at update 6")
    assert not judge(case.name, "float32", theta, find_truth(case)).passed


def test_a_run_that_nothing_is_lost_in_goes_on_bit_by_bit():
    for kind in ("portable-reload", "hand-over", "copy", "pickle"):
        assert followed(NumPyBackend(), CASES[f"event,{kind}"], "float64")[1] is None


def test_a_backend_that_has_no_events_is_not_asked_for_them():
    class Bare(SteppingBackend):
        features = frozenset()

    case = CASES["event,copy"]
    assert Bare.lacks(case, "float32") == "without copy"
    assert Bare.lacks(CASES["way,maximize"], "float32") == "without maximize"
    assert Bare.lacks(CASES["mixed,two"], "float32") == "without mixed dtypes"
    with pytest.raises(ValueError, match="does not support the event 'copy'"):
        SteppingBackend.happen(NumPyBackend(), Event("copy", 1))


def test_a_parameter_too_few_is_told():
    class Fewer(NumPyBackend):
        def parameters(self):
            return super().parameters()[1:]

    with pytest.raises(ValueError, match="there must be 7 parameters, got 6"):
        Fewer().follow(PLAIN, "float32")


def test_verdicts_survive_a_pickle():
    theta, told = followed(ChangesGradients(), PLAIN, "float32")
    verdict = judge(PLAIN.name, "float32", theta, find_truth(PLAIN), told)
    assert pickle.loads(pickle.dumps(verdict)) == verdict


def test_what_is_no_number_in_truth_must_be_none():
    case = CASES["special,broken,fast"]
    truth = find_truth(case)
    theta = NumPyBackend().follow(case, "float32")
    assert judge(case.name, "float32", theta, truth).passed
    hidden = np.nan_to_num(theta)
    assert not judge(case.name, "float32", hidden, truth).passed
    spread = theta.copy()
    spread[-1, np.flatnonzero(np.isfinite(theta[-1]))[0]] = np.nan
    assert not judge(case.name, "float32", spread, truth).passed


def test_features_that_no_case_asks_for_are_refused(tmp_path, monkeypatch):
    (tmp_path / "misspelt.py").write_text(
        "from innaprop_conformance.backends.numpy import NumPyBackend\n"
        "class Misspelt(NumPyBackend):\n"
        "    features = NumPyBackend.features | {'portable-reload'}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"features of misspelt:Misspelt must be of .*; got port"):
        load_backend("misspelt:Misspelt")


def test_every_feature_of_a_case_may_be_declared():
    assert set().union(*(case.features for case in CASES.values())) <= FEATURES
