"""The task in JAX with optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from innaprop.optax import innaprop
from innaprop_conformance.training.task import Task, Training


def train(task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
    """Train with ``innaprop.optax.innaprop`` or ``optax.adamw``.

    Args:
        task: What to train.
        optimizer: "INNAprop" or "AdamW".
        progress: Called after every step with the number of steps done.
    """
    jax.config.update("jax_enable_x64", False)  # type: ignore[no-untyped-call]
    h = task.hyperparameters
    if optimizer == "INNAprop":
        opt = innaprop(
            h.gamma,
            alpha=h.alpha,
            beta=h.beta,
            sigma=h.sigma,
            eps=h.eps,
            weight_decay=h.weight_decay,
        )
    else:
        opt = optax.adamw(h.gamma, b1=0.9, b2=h.sigma, eps=h.eps, weight_decay=h.weight_decay)

    def logits(params: list[Any], x: Any) -> Any:
        w1, b1, w2, b2 = params
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2

    def loss(params: list[Any], x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()

    @jax.jit
    def step(params: list[Any], state: Any, x: Any, y: Any) -> tuple[Any, list[Any], Any]:
        value, gradients = jax.value_and_grad(loss)(params, x, y)
        updates, state = opt.update(gradients, state, params)
        return value, optax.apply_updates(params, updates), state

    params = [jnp.asarray(w) for w in task.weights()]
    state = opt.init(params)
    losses = []
    for done, (x, y) in enumerate(task.batches(), start=1):
        value, params, state = step(params, state, x, y.astype(np.int32))
        losses.append(float(value))
        progress(done)
    x, y = task.test
    guess = np.asarray(logits(params, x)).argmax(axis=1)
    return Training(losses, float((guess == y).mean()))
