"""The optax transformation of a case, and the functions that initialize and update."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import tree_map_with_path

from innaprop import BEST_ACCURACY
from innaprop.optax import innaprop
from innaprop_conformance.backends.states import OTHERS
from innaprop_conformance.cases import Group, Hyperparameters
from innaprop_conformance.cases.case import differ_in_decay_only
from innaprop_conformance.cases.dtypes import has_narrow_state, has_residual

NUMBERS = ("learning_rate", "alpha", "beta", "sigma", "eps", "weight_decay")
"""Options that may be injected."""
LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Recipe:
    """The arguments that determine a transformation; hashable.

    Args:
        groups: Groups of the case.
        storage: The dtype, as in ``cases.dtypes``, of each parameter.
        way: Way of the case.
        amount: Amount of the case.
        injects: Whether all numeric options are injected, and not only changing step sizes.
        others: Whether injected options start at values other than the case's. Default False.
    """

    groups: tuple[Group, ...]
    storage: tuple[str, ...]
    way: str
    amount: float
    injects: bool
    others: bool = False


def name_of(place: int) -> str:
    """Return the name of the parameter at an index."""
    return f"p{place}"


def is_partitioned(groups: Sequence[Group]) -> bool:
    """Return whether each group needs its own transformation: dtypes and masks do not."""
    settings = {(g.hyperparameters, g.gamma, g.alpha, g.beta) for g in groups}
    return len(settings) > 1 and not differ_in_decay_only(groups)


@cache
def compiled(recipe: Recipe, jitted: bool, donates: bool) -> tuple[Callable[..., Any], Any]:
    """Return ``init``, and the function that makes an update.

    Args:
        recipe: Determines the transformation.
        jitted: Whether the update is jitted.
        donates: Whether it donates the buffers of parameters and state.
    """
    optimizer = _in_way(recipe, _of_groups(recipe))

    def step(params: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def step_with_loss(params: Any, state: Any, slopes: Any) -> tuple[Any, Any]:
        def loss(params: Any) -> Any:
            return sum(jnp.sum(p * slopes[name]) for name, p in params.items())

        value, gradients = jax.value_and_grad(loss)(params)
        # The arguments that line searches need.
        updates, state = optimizer.update(
            gradients, state, params, value=value, grad=gradients, value_fn=loss
        )
        return optax.apply_updates(params, updates), state

    chosen = step_with_loss if recipe.way == "closure" else step
    if not jitted:
        return optimizer.init, chosen
    return optimizer.init, jax.jit(chosen, donate_argnums=(0, 1) if donates else ())


def _in_way(recipe: Recipe, optimizer: Any) -> Any:
    """Return the transformation, wrapped in optax's transformations for the way."""
    if recipe.way == "clip by norm":
        labels = {name_of(i): name_of(i) for i in range(len(recipe.storage))}
        clips = {label: optax.clip_by_global_norm(recipe.amount) for label in labels}
        return optax.chain(optax.multi_transform(clips, labels), optimizer)
    match recipe.way:
        case "clip by value":
            return optax.chain(optax.clip(recipe.amount), optimizer)
        case "clip by global norm":
            return optax.chain(optax.clip_by_global_norm(recipe.amount), optimizer)
        case "maximize":
            return optax.chain(optax.scale(-1.0), optimizer)
        case "loss scaling":
            unscaled = optax.chain(optax.scale(1 / LOSS_SCALE), optimizer)
            return optax.apply_if_finite(unscaled, max_consecutive_errors=5)
        case "accumulation":
            return optax.MultiSteps(optimizer, every_k_schedule=2)
        case "complex":
            return optax.contrib.split_real_and_imaginary(optimizer)
    return optimizer


def _of_groups(recipe: Recipe) -> Any:
    """Return a transformation for all groups."""
    groups = recipe.groups
    owners = [i for i, group in enumerate(groups) for _ in group.shapes]
    if recipe.way == "defaults":
        return innaprop(groups[0].hyperparameters.gamma)
    if is_partitioned(groups):
        parts = {str(i): _of_group(recipe, group) for i, group in enumerate(groups)}
        return optax.multi_transform(parts, {name_of(i): str(o) for i, o in enumerate(owners)})
    if not differ_in_decay_only(groups):
        return _of_group(recipe, groups[0])
    # The groups differ in weight decay only: one transformation with a mask.
    decaying = max(groups, key=lambda group: group.hyperparameters.weight_decay)
    decays = {
        name_of(i): groups[owner].hyperparameters.weight_decay > 0 for i, owner in enumerate(owners)
    }

    def mask(params: Any) -> Any:
        return tree_map_with_path(lambda path, _: decays[path[-1].key], params)

    return _of_group(recipe, decaying, mask if recipe.way == "excluded by mask" else decays)


def _of_group(recipe: Recipe, group: Group, mask: Any = None) -> Any:
    options: dict[str, Any] = {
        **_named(group.hyperparameters),
        **{name: schedule for name in ("alpha", "beta") if (schedule := getattr(group, name))},
        "mask": mask,
        "residual": any(map(has_residual, recipe.storage)),
        "state_bits": 16 if any(map(has_narrow_state, recipe.storage)) else 32,
    }
    changes = any(of_case.gamma for of_case in recipe.groups)
    if group.gamma and recipe.way.startswith("step size"):
        s, changes = group.gamma, False
        is_own = recipe.way == "step size schedule"
        options["learning_rate"] = optax.linear_schedule(s.peak, s.end, s.steps) if is_own else s
    if recipe.way == "preset":
        options |= BEST_ACCURACY
    injected = [name for name in NUMBERS if not callable(options[name])] if recipe.injects else []
    injected = injected or ["learning_rate"] * changes
    if recipe.others:
        others = _named(OTHERS)
        options |= {name: others[name] for name in injected}
    if not injected:
        return innaprop(**options)
    make = optax.inject_hyperparams(
        innaprop,
        static_args=tuple(options.keys() - set(injected)),
        hyperparam_dtype=jnp.float64 if "float64" in recipe.storage else jnp.float32,
    )
    return make(**options)


def _named(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """Return hyperparameters by their names in optax."""
    values = asdict(hyperparameters)
    return {"learning_rate": values.pop("gamma"), **values}
