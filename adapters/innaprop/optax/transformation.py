"""The transformation: options, state and update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from innaprop.forms import Row, functional, looking_back
from innaprop.optax.options import Options, coefficients
from innaprop.optax.tree import Parameters, compute_dtype, trained
from innaprop_core import check_hyperparameters, momentum, packed


class INNApropState(NamedTuple):
    """State of ``innaprop``."""

    count: Any
    """Number of updates, int32 of shape ()."""
    momentum: Any
    """The momentum of each parameter, in its dtype (float32 for 16-bit ones); starts at zero. With
    ``state_bits=16``, int32 words that contain the packed momentum and second moment."""
    second_moment: Any
    """Likewise the second moment; None with ``state_bits=16``."""
    residual: Any
    """What of the float32 master weights 16-bit parameters do not contain, int16; ``MaskedNode``
    for other parameters; None if there are no 16-bit ones."""


def innaprop(
    learning_rate: Any,
    *,
    alpha: Any = 0.1,
    beta: Any = 0.9,
    sigma: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.01,
    mask: Any = None,
    residual: bool = True,
    decay_momentum: bool = True,
    state_bits: int | None = None,
    seed: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Return INNAprop. Its state is as large as AdamW's: a count and two arrays per parameter.

    Every hyperparameter may be a number or a scalar array, traced or not; traced values cannot be
    checked. Learning rate, alpha and beta may also be schedules: callables of the number of
    previous updates, an integer array, 0 at the first.

    ``update(gradients, state, params)`` takes float32, float64, bfloat16 and float16 parameters of
    any shapes and real floating gradients, and computes in the parameter's dtype, at least float32.
    The updates have that dtype. For 16-bit parameters they are the exact difference between the new
    and the old parameter, so that ``optax.apply_updates`` gives exactly the new one.

    Args:
        learning_rate: The paper's gamma, in [0, beta).
        alpha: Viscous damping, >= 0. Default 0.1.
        beta: Newtonian damping, > 0. Default 0.9.
        sigma: Decay rate of the second moment (Adam's beta2), in [0, 1). Default 0.999.
        eps: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0.
            Default 0.01.
        mask: Which parameters decay, as in ``optax.adamw``: a tree of booleans with the
            structure of the parameters or a prefix of it, or a callable that takes the parameters
            and returns one. Default None: all of them.
        residual: Whether 16-bit parameters get a 16-bit residual; both together are float32 master
            weights (for float16, within its range). Default True.
        decay_momentum: Whether weight decay also changes the momentum, as in Algorithm 1. If not,
            the weight only decays by gamma lambda, as in AdamW. Default True.
        state_bits: Bits of the momentum and of the second moment, each: 32; or 16, for float32,
            bfloat16 and float16 parameters only. Default None: 32. (``optax.inject_hyperparams``
            would treat a numeric default as a hyperparameter.)
        seed: Seed of the stochastic rounding of a 16-bit state; any integer. Default None: 0.

    Returns:
        An ``optax.GradientTransformationExtraArgs`` whose state is an ``INNApropState``.

    Raises:
        TypeError: An argument is of the wrong type. In ``init`` and ``update``: a parameter is
            not float32, float64, bfloat16 or float16, a gradient is not real and floating, the
            mask is not boolean, or the state is another transformation's.
        ValueError: A value is outside its range, or learning_rate >= beta. In ``update``:
            params are missing, or gradients, state or mask do not fit them.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from innaprop.optax import innaprop
        >>> params = {"w": jnp.array([1.0, 2.0])}
        >>> optimizer = innaprop(learning_rate=1e-3)
        >>> state = optimizer.init(params)
        >>> gradients = jax.grad(lambda p: jnp.sum(p["w"] ** 2))(params)
        >>> updates, state = optimizer.update(gradients, state, params)
        >>> params = optax.apply_updates(params, updates)
    """
    options = Options(
        gamma=learning_rate,
        alpha=alpha,
        beta=beta,
        sigma=sigma,
        eps=eps,
        weight_decay=weight_decay,
    )
    if not isinstance(residual, bool):
        raise TypeError(f"residual must be True or False, got {residual!r}")
    check_hyperparameters({"decay_momentum": decay_momentum})
    state_bits, seed = _storage(state_bits, seed)
    packs = state_bits == 16

    def init(params: Any) -> INNApropState:
        parameters = Parameters(params, abstract=True)
        leaves = parameters.leaves
        if leaves:  # optax.tree.map_params calls init with a placeholder without leaves.
            parameters.mask(mask)
        splits = [residual and p.dtype != compute_dtype(p.dtype) for p in leaves]
        dtypes = parameters.words() if packs else [compute_dtype(p.dtype) for p in leaves]
        return INNApropState(
            count=jnp.zeros([], jnp.int32),
            momentum=parameters.tree(map(jnp.zeros_like, leaves, dtypes)),
            second_moment=None if packs else parameters.tree(map(jnp.zeros_like, leaves, dtypes)),
            residual=parameters.tree_of_some(
                jnp.zeros_like(p, jnp.int16) if splits_it else None
                for p, splits_it in zip(leaves, splits, strict=True)
            ),
        )

    def update_tree(
        updates: Any, state: INNApropState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, INNApropState]:
        del extra_args  # Meant for others in the chain.
        if params is None:
            raise ValueError(
                "params must be given, got None: call update(gradients, state, params), since "
                "INNAprop's weight decay reads them"
            )
        _check_state(state)
        parameters = Parameters(trained(params, updates, state.momentum))
        gradients = parameters.gradients(updates)
        if packs != (state.second_moment is None):
            other = 32 if packs else 16
            raise ValueError(
                f"the state must be of {state_bits} bits, got one of {other}: call init again, or "
                "convert it by innaprop.save_state and innaprop.load_state"
            )
        momentums, second_moments = moments(parameters, state)
        residuals = parameters.residuals(state.residual)
        decays = parameters.mask(mask)

        thetas = _thetas(parameters, state)
        before = _count(state)
        count = optax.safe_increment(before)
        # int64 if enabled, so that schedules are computed in float64.
        values = options.at(before.astype(int))
        rows = [
            Row(theta, g.astype(theta.dtype), m, v)
            for theta, g, m, v in zip(thetas, gradients, momentums, second_moments, strict=True)
        ]
        # Rows of equal dtype and weight decay share their scalars; if they are also on the same
        # devices, they are one computation.
        groups: dict[tuple[Any, bool, Any], list[int]] = {}
        changes: list[Any] = [None] * len(rows)
        for i, (theta, decay) in enumerate(zip(thetas, decays, strict=True)):
            groups.setdefault((theta.dtype, decay, _devices(theta)), []).append(i)
        for (dtype, decay, _), members in groups.items():
            own = {**values, "weight_decay": values["weight_decay"] if decay else 0.0}
            looks_back = looking_back.is_valid(
                **{key: own[key] for key in ("gamma", "alpha", "beta", "weight_decay")},
                decay_momentum=decay_momentum,
            )
            c = coefficients(count, own, decay_momentum, dtype)
            changed = functional.update_all([rows[i] for i in members], c, looks_back)
            for i, results in zip(members, changed, strict=True):
                changes[i], momentums[i], second_moments[i] = results
        if packs:
            draw = packed.draw(count, seed)
            momentums = [
                functional.pack(m, v, draw) for m, v in zip(momentums, second_moments, strict=True)
            ]
        for i, p in enumerate(parameters.leaves):
            if residuals[i] is not None:
                parameter, residuals[i] = functional.split(thetas[i] + changes[i], p.dtype)
                changes[i] = functional.to_float32(parameter) - functional.to_float32(p)
        return parameters.tree(changes), INNApropState(
            count=count,
            momentum=parameters.tree(momentums),
            second_moment=None if packs else parameters.tree(second_moments),
            residual=parameters.tree_of_some(residuals),
        )

    return optax.GradientTransformationExtraArgs(init, update_tree)


def psi(state: INNApropState, params: Any, alpha: Any = 0.1, beta: Any = 0.9) -> Any:
    """Return the paper's psi of every parameter.

    Args:
        state: The state from ``init`` or ``update`` of ``innaprop``;
            ``optax.tree.get(state, "INNApropState")`` finds it in the state of a chain or wrapper.
        params: Its parameters.
        alpha: Viscous damping of the last update, as given to ``innaprop``. Default 0.1.
        beta: Newtonian damping, likewise. Default 0.9.

    Returns:
        A tree like ``params``, float32 for 16-bit parameters.

    Raises:
        TypeError: ``state`` is something else, or alpha or beta is not a number.
        ValueError: The state does not fit these parameters, or alpha or beta is outside its range.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    _check_state(state)
    values = Options(alpha=alpha, beta=beta).at(_count(state))
    parameters = Parameters(params)
    momentums, _ = moments(parameters, state)
    thetas = _thetas(parameters, state)
    return parameters.tree(
        momentum.psi_from_momentum(theta, m, **values)
        for theta, m in zip(thetas, momentums, strict=True)
    )


def master_weights(state: INNApropState, params: Any) -> Any:
    """Return the master weights of every parameter.

    Args:
        state: The state from ``init`` or ``update`` of ``innaprop``, as for ``psi``.
        params: Its parameters.

    Returns:
        A tree like ``params``: for a 16-bit parameter, the float32 value of the parameter and its
        residual; for others, the parameter itself.

    Raises:
        TypeError: ``state`` is something else.
        ValueError: The state does not fit these parameters.
    """
    _check_state(state)
    parameters = Parameters(params)
    return parameters.tree(_thetas(parameters, state))


def moments(parameters: Parameters, state: INNApropState) -> tuple[list[Any], list[Any]]:
    """Return the momentum and the second moment of each leaf.

    Raises:
        ValueError: The state does not fit the parameters.
    """
    if state.second_moment is not None:
        momentums = parameters.state("momentum", state.momentum)
        return momentums, parameters.state("second_moment", state.second_moment)
    words = parameters.state("momentum", state.momentum, parameters.words())
    both = [functional.unpack(word) for word in words]
    return [m for m, _ in both], [v for _, v in both]


def _storage(state_bits: Any, seed: Any) -> tuple[int, int]:
    """Return the options of the storage of state, checked."""
    state_bits = 32 if state_bits is None else state_bits
    seed = 0 if seed is None else seed
    for name, value in (("state_bits", state_bits), ("seed", seed)):
        if isinstance(value, jax.Array):
            raise TypeError(
                f"{name} must be an integer, got {value!r}; with optax.inject_hyperparams, give "
                f"static_args={name!r}"
            )
    packed.check_storage(state_bits, seed)
    return state_bits, seed


def _check_state(state: Any) -> None:
    if not isinstance(state, INNApropState):
        raise TypeError(
            f"state must be an INNApropState, got {type(state).__name__}; "
            'optax.tree.get(state, "INNApropState") finds it in the state of a chain'
        )


def _count(state: INNApropState) -> Any:
    """Return the number of updates, as an array.

    Raises:
        TypeError: It is not a number.
    """
    count = state.count
    numeric = isinstance(count, (int, float, jax.Array, np.ndarray, np.generic))
    if numeric and not isinstance(count, bool):
        count = jnp.asarray(count)
        real = jnp.issubdtype(count.dtype, jnp.integer) or jnp.issubdtype(count.dtype, jnp.floating)
        if count.shape == () and real:
            return count
    raise TypeError(f"the state's count must be a whole number, got {state.count!r}")


def _devices(array: Any) -> Any:
    """Return the devices of an array; None while a function is traced."""
    return None if isinstance(array, jax.core.Tracer) else frozenset(array.devices())


def _thetas(parameters: Parameters, state: INNApropState) -> list[Any]:
    residuals = parameters.residuals(state.residual)
    return [
        p.astype(compute_dtype(p.dtype)) if r is None else functional.join(p, r)
        for p, r in zip(parameters.leaves, residuals, strict=True)
    ]
