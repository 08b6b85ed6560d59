"""Measurements of the next update, as scalars inside the compiled step."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path

from innaprop.diagnostics.measure import SCALARS, SUMS, Operations, sums
from innaprop.forms import functional
from innaprop.optax.options import Options, coefficients
from innaprop.optax.transformation import INNApropState, master_weights, moments
from innaprop.optax.tree import Parameters, compute_dtype, trained

_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"alpha": 0.1, "beta": 0.9, "sigma": 0.999, "eps": 1e-8, "weight_decay": 0.01}
)
_OPERATIONS = Operations(
    sqrt=jnp.sqrt,
    finite=lambda x: jnp.isfinite(x).astype(x.dtype),
    less=lambda a, b: (a < b).astype(a.dtype),
    equal=lambda a, b: (a == b).astype(a.dtype),
    total=jnp.sum,
    dot=lambda a, b: jnp.sum(a * b),
    where=jnp.where,
)


def measure(
    gradients: Any,
    state: Any,
    params: Any,
    learning_rate: Any,
    *,
    groups: Callable[[str], str] | None = None,
    mask: Any = None,
    residual: bool = True,
    decay_momentum: bool = True,
    **hyperparameters: Any,
) -> dict[str, dict[str, Any]]:
    """Return what an update will do, for ``innaprop.diagnostics.Diagnostics.record``.

    Call it together with ``update``, with the same gradients, state and parameters, inside the
    compiled step or outside. Nothing is changed, and nothing is read from a device. To avoid any
    cost in the steps between records, compile a second step that measures, or use ``jax.lax.cond``.

    Args:
        gradients: As for ``update``; in a chain, after the transformations before ``innaprop``.
        state: The ``INNApropState``, or the state of a chain or wrapper that contains one.
        params: The parameters before the update.
        learning_rate: As given to ``innaprop``: a number, a scalar array or a schedule.
        groups: Takes the name of a parameter, such as "params['w']", and returns the name of its
            group. Default None: one group, "all".
        mask: As given to ``innaprop``. Default None.
        residual: As given to ``innaprop``. Default True.
        decay_momentum: As given to ``innaprop``. Default True.
        **hyperparameters: alpha, beta, sigma, eps and weight_decay as given to ``innaprop``, with
            its defaults.

    Returns:
        Scalars by name, by group.

    Raises:
        TypeError: An argument is unknown or of the wrong type, or there is no ``INNApropState``.
        ValueError: A value is outside its range, or gradients, state and parameters do not fit.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from innaprop.diagnostics import Diagnostics
        >>> from innaprop.optax import innaprop, measure
        >>> params = {"w": jnp.array([3.0, 4.0])}
        >>> state = innaprop(1e-3).init(params)
        >>> measured = jax.jit(lambda *of: measure(*of, 1e-3))(params, state, params)
        >>> Diagnostics().record(1, measured).all.parameter_norm
        5.0
    """
    unknown = hyperparameters.keys() - _DEFAULTS.keys()
    if unknown:
        raise TypeError(f"measure got an unknown argument: {', '.join(sorted(unknown))}")
    state = _state_in(state)
    params = trained(params, gradients, getattr(state, "momentum", None))
    thetas = Parameters(master_weights(state, params)).leaves
    parameters = Parameters(params)
    gs = parameters.gradients(gradients)
    ms, vs = moments(parameters, state)
    decays = parameters.mask(mask)
    options = Options(gamma=learning_rate, **{**_DEFAULTS, **hyperparameters})
    before = jnp.asarray(state.count)
    values = options.at(before.astype(int))
    measured: dict[str, dict[str, Any]] = {}
    paths, _ = tree_flatten_with_path(params)
    for i, ((path, _), p) in enumerate(zip(paths, parameters.leaves, strict=True)):
        theta = thetas[i]
        own = {**values, "weight_decay": values["weight_decay"] if decays[i] else 0.0}
        c = coefficients(before + 1, own, decay_momentum, theta.dtype)
        rounded = None
        if p.dtype != compute_dtype(p.dtype) and not residual:
            rounded = _rounding(p.dtype)
        found = sums(theta, ms[i], vs[i], gs[i].astype(theta.dtype), c, _OPERATIONS, rounded)
        group = measured.setdefault(
            "all" if groups is None else groups(f"params{keystr(path)}"), {}
        )
        for key, x in zip(SUMS, found, strict=True):
            group[key] = group.get(key, 0.0) + x
        group |= {key: values[key] for key in SCALARS}
    return measured


def _rounding(dtype: Any) -> Callable[[Any], Any]:
    return lambda x: functional.to_float32(x.astype(dtype))


def _state_in(state: Any) -> Any:
    """Return the ``INNApropState`` in a state; the state itself if there is not exactly one."""
    leaves = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, INNApropState))
    found = [leaf for leaf in leaves if isinstance(leaf, INNApropState)]
    return found[0] if len(found) == 1 else state
