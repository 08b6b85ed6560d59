import csv
import math

import pytest

from innaprop.diagnostics import CSV, Diagnostics, DiagnosticsWarning, TensorBoard, find
from innaprop.diagnostics.measure import SCALARS, SUMS
from innaprop.diagnostics.record import QUANTITIES


def measured(**values):
    """A group of four elements in good health, but for what is said."""
    sums = dict.fromkeys(SUMS, 0.0) | {
        "elements": 4,
        "parameter": 16.0,
        "gradient": 4.0,
        "update": 4e-6,
        "scaled_gradient": 4.0,
        "active": 4,
    }
    scalars = {"gamma": 1e-3, "alpha": 0.1, "beta": 0.9}
    return {**dict.fromkeys(SCALARS, 0.0), **sums, **scalars, **values}


def fed(losses, every=10, **values):
    diagnostics = Diagnostics(every, warn=False)
    for i, loss in enumerate(losses):
        diagnostics.loss(loss)
        diagnostics.record(1 + i * every, {"all": measured(**values)})
    return diagnostics


def test_a_record_has_the_mean_of_the_losses_since_the_last_and_the_last_validation():
    diagnostics = Diagnostics()
    for training, validation in ((1.0, 5.0), (2.0, None), (None, 7.0)):
        diagnostics.loss(training, validation)
    first = diagnostics.record(1, {"all": measured()})
    assert (first.training_loss, first.validation_loss) == (1.5, 7.0)
    second = diagnostics.record(2, {"all": measured()})
    assert (second.training_loss, second.validation_loss) == (None, None)


def test_the_values_of_a_record():
    values = Diagnostics().record(1, {"all": measured()}).as_dict("run/")
    assert values.keys() == {f"run/{name}" for name in (*QUANTITIES, "learning_rate")}
    assert values["run/update_over_parameter"] == pytest.approx(5e-4)
    assert values["run/scaled_gradient"] == 1.0


def test_a_group_without_gradients_has_shares_of_nothing():
    group = Diagnostics().record(1, {"all": measured(active=0, update=0.0)}).all
    assert math.isnan(group.at_floor)
    assert math.isnan(group.momentum_share)


def test_a_csv_file_is_whole_after_every_record(tmp_path):
    path = tmp_path / "run.csv"
    diagnostics = Diagnostics(write=[CSV(path)])
    for step in (1, 101):
        if step > 1:
            diagnostics.loss(0.5)
        diagnostics.record(step, {"all": measured()})
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        assert rows[-1]["step"] == str(step)
        assert float(rows[-1]["innaprop/parameter_norm"]) == 4.0
    assert [row["innaprop/training_loss"] for row in rows] == ["", "0.5"]


def test_writers_of_tensorboard_and_wandb():
    class Writer:
        def add_scalar(self, tag, value, step):
            written.append((tag, value, step))

    class Flax:
        def scalar(self, tag, value, step):
            written.append((tag, value, step))

    logged, written = [], []

    def log(values, step=None):
        logged.append((values, step))

    writers = [log, TensorBoard(Writer()), TensorBoard(Flax())]
    Diagnostics(write=writers).record(3, {"all": measured()})
    assert written.count(("innaprop/gradient_norm", 2.0, 3)) == 2
    ((values, step),) = logged
    assert (values["innaprop/gradient_norm"], step) == (2.0, 3)
    with pytest.raises(TypeError, match="writer must have add_scalar or scalar"):
        TensorBoard(object())


def test_the_figure_has_losses_sizes_momentum_and_shares():
    diagnostics = fed([1.0, 0.5, 0.25])
    figure = diagnostics.plot()
    labels = [line.get_label() for axes in figure.axes for line in axes.lines]
    assert {"training loss", "update over parameter", "momentum share", "stale"} <= set(labels)
    assert list(figure.axes[0].lines[0].get_ydata()) == [1.0, 0.5, 0.25]
    with pytest.raises(ValueError, match="records must hold at least one record"):
        Diagnostics().plot()


def test_a_signature_is_told_once():
    diagnostics = Diagnostics()
    with pytest.warns(DiagnosticsWarning, match="update 1: explosion: numbers are no longer"):
        diagnostics.record(1, {"all": measured(parameter=math.inf)})
    diagnostics.record(2, {"all": measured(parameter=math.inf)})
    assert [finding.step for finding in diagnostics.findings] == [1]


def test_a_warmup_is_no_plateau():
    diagnostics = Diagnostics(warn=False)
    for i in range(10):
        diagnostics.loss(1.0)
        diagnostics.record(1 + i, {"all": measured(gamma=1e-9 * (i + 1), update=1e-16)})
    assert diagnostics.findings == []
    assert [f.name for f in fed([1.0] * 10, every=1, update=1e-16).findings] == ["plateau"]


def test_a_loss_that_is_learnt_is_no_conservative_scaling():
    slow = {"scaled_gradient": 1e-4, "at_floor": 4}
    assert [f.name for f in fed([1.0] + [0.9] * 9, **slow).findings] == ["conservative scaling"]
    assert fed([1.0] + [0.3] * 9, **slow).findings == []


def test_a_diverged_run_with_a_low_loss_in_between_is_an_explosion():
    diagnostics = Diagnostics(1, warn=False)
    for i, loss in enumerate([2.3, 1.0, 9000.0, 1.5, 330.0, 6.0, 70.0]):
        diagnostics.loss(loss)
        diagnostics.record(1 + i, {"all": measured(parameter=16.0 * 9**i)})
    assert [finding.name for finding in diagnostics.findings] == ["explosion"]
    assert "grown tenfold" in diagnostics.findings[0].cause


def test_where_the_momentum_alone_is_unstable_alpha_is_named():
    diagnostics = Diagnostics(1, warn=False)
    diagnostics.record(1, {"all": measured(parameter=math.inf, gamma=1.5, alpha=2.0, beta=2.0)})
    assert "product must be below 2, got 3" in diagnostics.findings[0].advice


def test_a_learning_rate_of_zero_has_no_stability_limit():
    assert math.isnan(fed([1.0], gamma=0.0).records[0].all.stability_limit)


def test_a_noisy_loss_of_a_single_batch_is_no_explosion():
    assert fed([1e-6, 1.0, 1.1, 0.9, 1.0, 1.2, 0.8]).findings == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 0}, ValueError, "every must be an integer >= 1, got 0"),
        ({"every": 2.5}, TypeError, "every must be an integer >= 1, got 2.5"),
        ({"warn": "no"}, TypeError, "warn must be True or False, got 'no'"),
        ({"write": [3]}, TypeError, "write must hold callables, got 3"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        Diagnostics(**arguments)


def test_what_does_not_fit_is_refused_before_anything_changes():
    diagnostics = fed([1.0])
    diagnostics.loss(2.0)
    with pytest.raises(ValueError, match="larger than that of the last record, 1, got 1"):
        diagnostics.record(1, {"all": measured()})
    with pytest.raises(TypeError, match=r"measured must be what measure\(\) returns"):
        diagnostics.record(2, [1.0])
    with pytest.raises(ValueError, match="at least one group"):
        diagnostics.record(2, {})
    with pytest.raises(ValueError, match="measured must have update for group 'all'"):
        diagnostics.record(2, {"all": {k: v for k, v in measured().items() if k != "update"}})
    assert diagnostics.record(2, {"all": measured()}).training_loss == 2.0
    with pytest.raises(ValueError, match="in the order of their steps"):
        find(diagnostics.records[::-1])


@pytest.mark.parametrize(
    ("alpha", "beta", "says"),
    [
        (0.005, 0.9, "alpha beta is too small"),
        (20.0, 1.0, "alpha is too large"),
        (0.1, 0.9, None),
        (2.0, 2.0, None),
    ],
)
def test_a_flat_loss_is_laid_to_dampings_far_from_the_presets_alone(alpha, beta, says):
    # Updates long enough that the rate is not to blame.
    findings = fed([1.0] * 9, alpha=alpha, beta=beta, update=4e-2).findings
    assert [f.name for f in findings] == ([] if says is None else ["plateau"])
    assert says is None or says in findings[0].cause
