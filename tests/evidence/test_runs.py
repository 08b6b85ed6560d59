"""Runs learn, are the same bit for bit when made again, and mean what their pages say of them."""

import math

import pytest
import torch

from evidence.contenders import ADAMW, FAST, FOUR, RIVALS
from evidence.experiment import Scale
from evidence.experiments import EXPERIMENTS, finetuning, images, language, long_runs, recurrent
from evidence.optimizers import Driver, pair_schedules, rate_factor, time_of
from evidence.store import Results
from evidence.tasks import text_model
from evidence.training import SPARSE

pytestmark = pytest.mark.usefixtures("on_small_data")
SMOKE = Scale("smoke")


def first_run(experiment, which=0):
    study = EXPERIMENTS[experiment].studies(SMOKE)[which]
    return {**study.base, **ADAMW.options, "lr": 1e-2, "seed": 0}


@pytest.mark.parametrize("experiment", ["long-runs", "images", "language", "recurrent"])
def test_it_learns(experiment):
    result = EXPERIMENTS[experiment].run({**first_run(experiment), "steps": 60})
    assert result["training"][-1] < result["training"][0]


@pytest.mark.parametrize("experiment", ["long-runs", "images", "language", "finetuning"])
def test_it_is_the_same_bit_for_bit(experiment):
    config = {**first_run(experiment), "test": True}
    assert EXPERIMENTS[experiment].run(config) == EXPERIMENTS[experiment].run(config)


def test_another_seed_is_another_run():
    config = first_run("long-runs")
    assert long_runs.run(config)["weights"] != long_runs.run({**config, "seed": 1})["weights"]


def test_all_contenders_of_a_seed_see_the_same_weights_and_batches():
    config = {**first_run("long-runs"), "lr": 1e-12, "weight_decay": 0.0}
    ours = long_runs.run({**config, **FAST.options, "weight_decay": 0.0})
    assert ours["training"] == pytest.approx(long_runs.run(config)["training"], rel=1e-5)


@pytest.mark.parametrize("contender", [*FOUR, *RIVALS], ids=lambda c: c.name)
def test_every_contender_and_all_it_searches_for_take_a_step(contender):
    if contender in RIVALS:
        pytest.importorskip("pytorch_optimizer")
        pytest.importorskip("schedulefree")
    config = {**first_run("rivals"), **contender.options, "lr": 1e-3, "steps": 3}
    for alternative in ({}, *contender.alternatives):
        result = EXPERIMENTS["rivals"].run({**config, **alternative})
        assert all(map(math.isfinite, result["training"]))


def test_t_is_the_sum_of_the_rates():
    config = {"lr": 1e-2, "steps": 1000, "schedule": "cosine"}
    assert time_of(config) == pytest.approx(1e-2 * 1000 / 2, rel=2e-3)
    assert time_of({**config, "schedule": "constant"}) == pytest.approx(10)


def test_the_schedule_warms_up_and_ends_at_its_floor():
    config = {"steps": 100, "schedule": "cosine", "warmup": 0.1, "floor": 0.1}
    factors = [rate_factor(config, step) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert max(factors) == factors[10] == 1
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)


def test_the_driver_sets_the_rate_of_the_step():
    model = torch.nn.Linear(2, 1)
    config = {**ADAMW.options, "lr": 1.0, "steps": 10, "schedule": "cosine", "warmup": 0.0}
    driver = Driver(config, model)
    for step in range(10):
        model(torch.ones(1, 2)).sum().backward()
        driver.step(step)
        (group,) = driver.optimizers[0].param_groups
        assert group["lr"] == rate_factor(config, step)


@pytest.mark.parametrize("path", ["linear", "late", "jump"])
def test_alpha_and_beta_go_from_one_pair_to_the_other(path):
    config = {"alpha": 0.1, "beta": 0.9, "to": [2.0, 2.0], "path": path, "steps": 100}
    alpha, beta = pair_schedules(config)
    assert (alpha(0), beta(0)) == (0.1, 0.9)
    assert (alpha(100), beta(100)) == pytest.approx((2.0, 2.0))
    ways = [alpha(step) for step in range(101)]
    assert ways == sorted(ways)


def test_a_run_that_diverges_says_so():
    config = {**first_run("long-runs"), **FAST.options, "lr": 0.8, "weight_decay": 1e6}
    assert "diverged" in long_runs.run(config)


def test_runs_that_only_choose_are_looked_at_less():
    assert len(long_runs.run(first_run("long-runs"))["marks"]) == len(SPARSE)


def test_fine_tuning_starts_from_what_is_known(monkeypatch):
    config = {**first_run("finetuning"), "lr": 1e-12, "test": True}
    known = finetuning._known(0, 20, 300, (4, 0, 8, 0), "fashion-mnist")
    monkeypatch.setattr(finetuning, "train", lambda task, config: list(task.model.parameters()))
    first, *_, last, _ = finetuning.run(config)
    assert torch.equal(first, known[0])
    assert last.shape == known[-2].shape
    assert not torch.equal(last, known[-2])


def test_lora_moves_nothing_but_its_own():
    pytest.importorskip("peft")
    whole = text_model(first_run("language"))
    adapted = language.with_lora(whole, 4)
    names = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert names
    assert all("lora_" in name for name in names)


def test_control_learns_to_hold_the_pole():
    pytest.importorskip("gymnasium")
    study = EXPERIMENTS["control"].studies(SMOKE)[0]
    config = {**study.base, **ADAMW.options, "weight_decay": 0.0, "lr": 3e-3, "seed": 0}
    config |= {"rollout": 64, "width": 16, "steps": 12 * 16}
    result = EXPERIMENTS["control"].run(config)
    assert result["training"][-1] < result["training"][0] - 10


def test_memory_counts_the_state():
    ours, theirs = (
        EXPERIMENTS["memory"].run(config)
        for config in EXPERIMENTS["memory"].plan(SMOKE, Results(None))[::2]
    )
    assert ours["bytes a weight"] == pytest.approx(8, abs=0.2)
    assert ours["bytes a weight"] == pytest.approx(theirs["bytes a weight"], abs=0.1)


def test_images_may_be_shifted_and_flipped():
    task = images.Classifier({**first_run("images"), "augment": True})
    pixels = torch.arange(14 * 14).reshape(1, 1, 14, 14).to(torch.uint8).repeat(50, 1, 1, 1)
    changed = task._augmented(pixels)
    assert changed.shape == pixels.shape
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 30
    assert (changed.flatten(1).sort()[0][:, -1] > 100).all()


def test_recurrent_networks_are_two_kinds():
    names = [study.base["model"] for study in recurrent.studies(SMOKE)]
    assert names == ["gru", "lstm"]
