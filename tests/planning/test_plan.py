"""What ``innaprop.plan`` says, against runs of the core and of PyTorch's AdamW."""

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest

import innaprop
from innaprop.planning import Plan, plan
from innaprop_core import BEST_ACCURACY, FAST_TRAINING, Hyperparameters, INNAprop

SETTINGS = [
    {"lr": rate, "steps": steps, "schedule": schedule, "warmup_steps": warmup, **dampings}
    for (rate, steps), (schedule, warmup), dampings in itertools.product(
        [(1e-3, 3000), (0.03, 700)],
        [("constant", 0), ("cosine", 0), ("linear", 100)],
        [FAST_TRAINING, BEST_ACCURACY, {"alpha": 1.0, "beta": 1.0}, {"alpha": 0.0, "beta": 0.5}],
    )
]


def label(values):
    return "-".join(str(value) for value in values.values())


def run(planned: Plan, start: float, gradient: float, weight_decay: float):
    """Follow one weight in the core, over the plan's rates."""
    scalars = planned.hyperparameters
    optimizer = INNAprop(
        [np.array([start])],
        Hyperparameters(
            scalars.gamma, scalars.alpha, scalars.beta, eps=0.0 if gradient else 1e-8,
            weight_decay=weight_decay, decay_momentum=scalars.decay_momentum,
        ),
    )  # fmt: skip
    path = [start]
    for rate in planned.rates:
        path.append(float(optimizer.step([np.array([gradient])], gamma=rate)[0][0]))
    return np.array(path)


@pytest.mark.parametrize("values", SETTINGS, ids=label)
def test_steps_are_those_of_the_core(values):
    planned = plan(**values)
    lengths = -np.diff(run(planned, 0.0, 1.0, weight_decay=0.0))
    np.testing.assert_allclose(planned.steps.lengths, lengths, rtol=1e-9, atol=1e-12)
    assert planned.steps.first == pytest.approx(lengths[0], rel=1e-9)
    assert planned.steps.last == pytest.approx(lengths[-1], rel=1e-7, abs=1e-12)
    assert planned.steps.distance == pytest.approx(lengths.sum(), rel=1e-9)
    longest, at = planned.steps.longest
    assert longest == pytest.approx(lengths.max(), rel=1e-9)
    assert lengths[at] == pytest.approx(longest, rel=1e-9)


@pytest.mark.parametrize("decay_momentum", [True, False])
@pytest.mark.parametrize("weight_decay", [0.01, 0.3])
@pytest.mark.parametrize("values", SETTINGS[::2], ids=label)
def test_idle_weights_are_those_of_the_core(values, weight_decay, decay_momentum):
    planned = plan(**values, weight_decay=weight_decay, decay_momentum=decay_momentum)
    path = run(planned, 1.0, 0.0, weight_decay)
    assert planned.idle.left == pytest.approx(path[-1], rel=1e-9, abs=1e-12)
    below = np.flatnonzero(path < 0)
    assert planned.idle.crosses_at == (below[0] if below.size else None)


def test_the_documented_crossing():
    # Of docs/practice.md: (0.1, 0.9), weight decay 0.01, rate 1e-3.
    planned = plan(lr=1e-3, steps=40_000)
    assert planned.idle.crosses_at == 22_628
    assert planned.idle.swings
    assert not plan(lr=1e-3, steps=10, weight_decay=0.0023).idle.swings
    assert not plan(lr=1e-3, steps=10, decay_momentum=False).idle.swings


def test_roots_of_an_idle_weights_motion():
    fast, accurate = plan(lr=1e-3, steps=1), plan(lr=1e-3, steps=1, **BEST_ACCURACY)
    assert fast.idle.rates[0] == pytest.approx(-0.055 + 0.0901j, abs=5e-4)
    assert [r.real for r in accurate.idle.rates] == pytest.approx([-0.00249, -2.0075], rel=2e-3)
    for weight_decay in (0.0, 0.01, 1.0, 1e-12):
        for root in plan(lr=1e-3, steps=1, weight_decay=weight_decay).idle.rates:
            residue = root**2 + (weight_decay + 0.1) * root + weight_decay / 0.9
            assert abs(residue) < 1e-15


@pytest.mark.parametrize("dampings", [FAST_TRAINING, BEST_ACCURACY], ids=["fast", "accurate"])
@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_the_stability_limit_is_where_the_core_diverges(dampings, rate):
    planned = plan(lr=rate, steps=1, **dampings)

    def grows(curvature):
        scalars = Hyperparameters(rate, **dampings, eps=1.0, weight_decay=0.0)
        optimizer = INNAprop([np.array([1e-9])], scalars)
        for _ in range(2000):
            optimizer.step([curvature * optimizer.parameters[0]])
        return abs(optimizer.parameters[0][0]) > 1e-9

    assert not grows(0.99 * planned.stability_limit)
    assert grows(1.01 * planned.stability_limit)


def test_adamws_side_is_adamw():
    torch = pytest.importorskip("torch")
    planned = plan(adamw_lr=1e-2, steps=500, schedule="linear", weight_decay=0.3)
    weights = [torch.nn.Parameter(torch.tensor([x], dtype=torch.float64)) for x in (0.0, 1.0)]
    for weight, gradient, decay in zip(weights, (1.0, 0.0), (0.0, 0.3), strict=True):
        optimizer = torch.optim.AdamW([weight], lr=1e-2, eps=1e-300, weight_decay=decay)
        for rate in planned.adamw_rates:
            optimizer.param_groups[0]["lr"] = rate
            weight.grad = torch.tensor([gradient], dtype=torch.float64)
            optimizer.step()
    assert planned.steps.adamw_distance == pytest.approx(-weights[0].item(), rel=1e-6)
    assert planned.idle.adamw_left == pytest.approx(weights[1].item(), rel=1e-9)
    # With the decay spared the momentum, INNAprop's idle weights are AdamW's.
    assert planned.idle.left == pytest.approx(planned.idle.adamw_left, rel=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda of, o: of.CosineAnnealingLR(o, T_max=50),
        lambda of, o: of.LambdaLR(o, lambda k: 1 / (1 + k)),
        lambda of, o: of.OneCycleLR(o, max_lr=0.1, total_steps=60, cycle_momentum=False),
        lambda of, o: of.SequentialLR(
            o, [of.LinearLR(o, 0.01, total_iters=10), of.ExponentialLR(o, 0.9)], milestones=[10]
        ),
    ],
    ids=["cosine", "lambda", "one cycle", "sequential"],
)
def test_a_scheduler_of_pytorch_is_asked_and_left_alone(make):
    torch = pytest.importorskip("torch")
    from innaprop.torch import INNAprop as Optimizer

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = Optimizer([weight], lr=1e-2)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    for _ in range(3):  # From where it stands.
        optimizer.step()
        scheduler.step()
    before = json.dumps([str(scheduler.state_dict()), str(optimizer.state_dict())])
    planned = plan(lr=scheduler, steps=50)
    assert json.dumps([str(scheduler.state_dict()), str(optimizer.state_dict())]) == before
    for rate in planned.rates:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_a_schedule_of_optax_is_asked():
    optax = pytest.importorskip("optax")
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 5, 50)
    planned = plan(lr=schedule, steps=50)
    expected = [float(schedule(step)) for step in range(50)]
    np.testing.assert_allclose(planned.rates, expected, rtol=1e-6, atol=1e-9)


def test_functions_of_numbers_alone_and_lists_are_asked():
    def stairs(step):
        return 1e-2 if step < 3 else 1e-3  # An array has no truth value.

    expected = (1e-2, 1e-2, 1e-2, 1e-3)
    assert plan(lr=stairs, steps=4).rates == expected
    assert plan(lr=list(expected), steps=4).rates == expected
    assert plan(lr=itertools.cycle([1e-2]), steps=4).rates == (1e-2,) * 4


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_named_schedules(schedule):
    rates = plan(lr=1e-2, steps=100, schedule=schedule, warmup_steps=10).rates
    assert len(rates) == 100
    assert rates[:10] == pytest.approx([1e-3 * k for k in range(1, 11)])
    assert rates[10] == 1e-2
    fall = {"constant": 1e-2, "linear": 5e-3, "cosine": 5e-3}[schedule]
    assert rates[55] == pytest.approx(fall)
    assert plan(lr=1e-2, steps=5, warmup_steps=5).rates[-1] == 1e-2


def test_a_suggestion_goes_into_every_optimizer():
    planned = innaprop.plan(adamw_lr=3e-4, weight_decay=0.1, steps=20_000, schedule="cosine")
    torch = pytest.importorskip("torch")
    from innaprop.torch import INNAprop as Optimizer

    group = Optimizer([torch.nn.Parameter(torch.zeros(1))], **planned.options).param_groups[0]
    assert group["lr"] == 3e-4
    assert group["weight_decay"] == 0.1
    assert planned.options_for("keras")["learning_rate"] == 3e-4
    assert planned.options_for("optax") == planned.options_for("tensorflow")
    with pytest.raises(ValueError, match=r"framework must be one of .*, got 'caffe'"):
        planned.options_for("caffe")


def test_growing_steps_are_warned_of_and_not_suggested():
    (growing, *_) = plan(lr=1e-3, steps=20_000).warnings
    assert "9.7 times as long" in growing
    suggested = plan(adamw_lr=1e-3, steps=20_000)
    assert suggested.options["alpha"] == 2.0
    assert not any("times as long" in warning for warning in suggested.warnings)
    assert plan(adamw_lr=1e-3, steps=3000, schedule="cosine").options["alpha"] == 0.1


def test_swinging_weights_are_warned_of():
    warnings = plan(lr=1e-3, steps=40_000, schedule="constant").warnings
    assert any("through zero at update 22,628" in warning for warning in warnings)
    spared = plan(lr=1e-3, steps=40_000, decay_momentum=False).warnings
    assert not any("through zero" in warning for warning in spared)


def test_it_is_read_and_drawn():
    planned = plan(lr=1e-3, steps=100, schedule="cosine")
    text = repr(planned)
    assert text.splitlines()[0].startswith("INNAprop(lr=0.001, alpha=0.1, beta=0.9")
    assert "longest step" in text
    html = planned._repr_html_()
    assert html.count("<tr>") == text.count("\n") - len(planned.warnings) - 1
    pytest.importorskip("matplotlib")
    figure = planned.plot()
    ours, theirs = figure.axes[0].lines
    np.testing.assert_allclose(ours.get_ydata(), planned.steps.lengths)
    np.testing.assert_allclose(theirs.get_ydata(), planned.adamw_rates)


def test_a_rate_of_zero_and_an_alpha_of_zero():
    planned = plan(lr=0.0, steps=3, alpha=0.0, beta=1.0, weight_decay=0.0)
    assert planned.stability_limit == math.inf
    assert planned.time_constant == math.inf
    assert "never fades" in repr(planned)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 1.5}, TypeError, "steps must be an integer, got 1.5"),
        ({"steps": 3, "warmup_steps": 4}, ValueError, "warmup_steps must be in 0 to 3, got 4"),
        ({"lr": None}, ValueError, "lr or adamw_lr must be given"),
        ({"lr": -1e-3}, ValueError, "lr must be a finite number >= 0, got -0.001"),
        ({"lr": None, "adamw_lr": math.nan}, ValueError, "adamw_lr must be a finite number"),
        ({"lr": "1e-3"}, TypeError, "lr must be a number, a schedule"),
        ({"lr": [1e-3]}, ValueError, "lr must have 9 rates, one for each step, got 1"),
        ({"lr": [math.nan] * 9}, ValueError, "lr must be finite and >= 0 at every step, got nan"),
        ({"schedule": "step"}, ValueError, "schedule must be one of constant, linear, cosine"),
        ({"lr": [1e-3] * 9, "schedule": "cosine"}, ValueError, "go with a number"),
        ({"alpha": 1.0}, ValueError, "alpha and beta go together, got alpha=1.0 and beta=None"),
        ({"lr": 1.0}, ValueError, "lr must be smaller than beta"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be a finite number >= 0"),
        ({"adamw_beta1": 1.0}, ValueError, r"adamw_beta1 must be a number in \[0, 1\), got 1.0"),
    ],
)
def test_bad_input_is_told(values, error, message):
    with pytest.raises(error, match=message):
        plan(**{"lr": 1e-3, "steps": 9, **values})


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "innaprop", "plan", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_prints_the_plan():
    done = command("--lr", "3e-4", "--steps", "20000", "--cosine", "--weight-decay", "0.1")
    assert done.returncode == 0, done.stderr
    expected = plan(lr=3e-4, steps=20_000, schedule="cosine", weight_decay=0.1)
    assert done.stdout == f"{expected}\n"


def test_the_command_tells_bad_input():
    done = command("--lr", "3e-4", "--steps", "0")
    assert done.returncode == 1
    assert done.stderr == "innaprop: steps must be at least 1, got 0\n"


def test_beyond_the_limit_of_the_momentum_no_curvature_is_stable():
    planned = innaprop.plan(lr=1.5, steps=100, alpha=2.0, beta=2.0)
    assert planned.stability_limit == 0
    assert any("must be below 2, got 3." in warning for warning in planned.warnings)
    assert not any("without a gradient" in warning for warning in planned.warnings)
    assert innaprop.plan(lr=0.99, steps=100, alpha=2.0, beta=2.0).stability_limit > 0


def test_only_a_schedule_is_for_the_user_to_add():
    assert "add the schedule yourself" not in repr(innaprop.plan(lr=1e-3, steps=100))
    planned = innaprop.plan(lr=1e-3, steps=100, schedule="cosine")
    assert "add the schedule yourself" in repr(planned)
    assert "add the schedule yourself" in planned._repr_html_()


@pytest.mark.parametrize(
    ("alias", "framework"),
    [("PyTorch", "torch"), ("tf", "tensorflow"), ("jax", "optax"), ("Keras", "keras")],
)
def test_frameworks_have_other_names(alias, framework):
    planned = innaprop.plan(lr=1e-3, steps=10, weight_decay=None)
    assert planned.options_for(alias) == planned.options_for(framework)
    assert planned.options["weight_decay"] == 0
