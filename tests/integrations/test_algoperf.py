"""The submission modules of AlgoPerf, on a stub of its interface: its runner's calls, by name."""

import collections
import enum
import importlib.util
import inspect
import json
import random
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks" / "algoperf"
STEPS = 60
CALLS = {
    "get_batch_size": "workload_name",
    "init_optimizer_state": "workload model_params model_state hyperparameters rng",
    "update_params": "workload current_param_container current_params_types model_state "
    "hyperparameters batch loss_type optimizer_state eval_results global_step rng train_state",
    "prepare_for_eval": "workload current_param_container current_params_types model_state "
    "hyperparameters loss_type optimizer_state eval_results global_step rng",
    "data_selection": "workload input_queue optimizer_state current_param_container model_state "
    "hyperparameters global_step rng",
}


@pytest.fixture
def submission(monkeypatch):
    """A function that loads a submission, with a stub of ``algoperf.spec`` to import."""
    spec = types.ModuleType("algoperf.spec")
    spec.ForwardPassMode = enum.Enum("ForwardPassMode", "TRAIN EVAL")
    package = types.ModuleType("algoperf")
    package.spec = spec
    monkeypatch.setitem(sys.modules, "algoperf", package)
    monkeypatch.setitem(sys.modules, "algoperf.spec", spec)

    def load(framework):
        path = FOLDER / f"{framework}_submission.py"
        of_file = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(of_file)
        of_file.loader.exec_module(module)
        return module

    return load


def hyperparameters(seed=0):
    """Return a point of the search space, as the runner's namedtuple."""
    space = json.loads((FOLDER / "tuning_search_space.json").read_text())
    rng = random.Random(seed)
    values = {}
    for name, of_name in space.items():
        if "feasible_points" in of_name:
            values[name] = rng.choice(of_name["feasible_points"])
        else:
            assert of_name["scaling"] == "log"
            assert of_name["min"] < of_name["max"]
            values[name] = of_name["min"] * (of_name["max"] / of_name["min"]) ** rng.random()
    return collections.namedtuple("Hyperparameters", values)(**values)


def inputs():
    rng = np.random.default_rng(0)
    while True:
        x = rng.normal(size=(16, 4)).astype("float32")
        yield {"inputs": x, "targets": (x[:, 0] > 0).astype("int64")}


class Workload:
    """A linear classifier with a hidden layer, over either framework."""

    step_hint = STEPS
    metrics_logger = None

    def _loss(self, log_probabilities, labels, label_smoothing, mask_batch):
        assert mask_batch is None
        one = log_probabilities[np.arange(len(labels)), labels]
        losses = -(1 - label_smoothing) * one - label_smoothing * log_probabilities.mean(1)
        return {"summed": losses.sum(), "n_valid_examples": len(labels)}


class InTorch(Workload):
    loss_type = model_params_types = None

    def init(self):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

    def model_fn(
        self,
        params,
        augmented_and_preprocessed_input_batch,
        model_state,
        mode,
        rng,
        update_batch_norm,
        dropout_rate=0.0,
    ):
        assert mode.name == "TRAIN"
        x = torch.from_numpy(augmented_and_preprocessed_input_batch["inputs"])
        return params(x), model_state

    def loss_fn(self, label_batch, logits_batch, mask_batch=None, label_smoothing=0.0):
        return self._loss(logits_batch.log_softmax(1), label_batch, label_smoothing, mask_batch)

    def loss(self, params):
        batch = next(inputs())
        with torch.no_grad():
            logits = params(torch.from_numpy(batch["inputs"]))
        losses = self.loss_fn(batch["targets"], logits)
        return float(losses["summed"]) / losses["n_valid_examples"]


@dataclass
class Shape:
    """A leaf, as ``spec.ShapeTuple`` is one."""

    shape_tuple: tuple[int, ...]


class InJax(Workload):
    loss_type = model_params_types = None

    def __init__(self):
        self.param_shapes = {"a": Shape((4, 8)), "bias": Shape((8,)), "b": Shape((8, 2))}

    def init(self):
        rng = np.random.default_rng(0)
        return {
            name: jnp.asarray(rng.normal(size=shape.shape_tuple) / 2, jnp.float32)
            for name, shape in self.param_shapes.items()
        }

    def model_fn(
        self,
        params,
        augmented_and_preprocessed_input_batch,
        model_state,
        mode,
        rng,
        update_batch_norm,
        dropout_rate=0.0,
    ):
        assert mode.name == "TRAIN"
        x = augmented_and_preprocessed_input_batch["inputs"]
        return jnp.tanh(x @ params["a"] + params["bias"]) @ params["b"], model_state

    def loss_fn(self, label_batch, logits_batch, mask_batch=None, label_smoothing=0.0):
        logs = jax.nn.log_softmax(logits_batch)
        return self._loss(logs, label_batch, label_smoothing, mask_batch)

    def loss(self, params):
        batch = next(inputs())
        logits = jnp.tanh(batch["inputs"] @ params["a"] + params["bias"]) @ params["b"]
        losses = self.loss_fn(batch["targets"], logits)
        return float(losses["summed"]) / losses["n_valid_examples"]


@pytest.mark.parametrize(("framework", "workload"), [("pytorch", InTorch()), ("jax", InJax())])
def test_the_runners_loop_trains(submission, framework, workload):
    module, point, queue = submission(framework), hyperparameters(), inputs()
    point = point._replace(learning_rate=1e-2, weight_decay=0.01)
    rng, params, model_state = jax.random.key(0), workload.init(), {}
    before = workload.loss(params)
    assert module.get_batch_size("mnist") == 16
    state = module.init_optimizer_state(workload, params, model_state, point, rng)
    for step in range(STEPS):
        batch = module.data_selection(workload, queue, state, params, model_state, point, step, rng)
        state, params, model_state = module.update_params(
            workload=workload,
            current_param_container=params,
            current_params_types=workload.model_params_types,
            model_state=model_state,
            hyperparameters=point,
            batch=batch,
            loss_type=workload.loss_type,
            optimizer_state=state,
            eval_results=[],
            global_step=step,
            rng=rng,
        )
    state, params, model_state = module.prepare_for_eval(
        workload=workload,
        current_param_container=params,
        current_params_types=workload.model_params_types,
        model_state=model_state,
        hyperparameters=point,
        loss_type=workload.loss_type,
        optimizer_state=state,
        eval_results=[],
        global_step=STEPS,
        rng=rng,
    )
    assert workload.loss(params) < 0.7 * before


@pytest.mark.parametrize("framework", ["pytorch", "jax"])
def test_the_modules_have_the_runners_functions(submission, framework):
    module = submission(framework)
    for name, parameters in CALLS.items():
        assert list(inspect.signature(getattr(module, name)).parameters) == parameters.split()
    with pytest.raises(ValueError, match=r"workload_name must be one of .*, got 'cifar'"):
        module.get_batch_size("cifar")


@pytest.mark.parametrize("seed", range(20))
def test_every_point_of_the_search_space_is_a_choice_of_options(seed):
    point = hyperparameters(seed)
    assert point.learning_rate < point.beta
    assert 0 < 1 - point.one_minus_sigma < 1
