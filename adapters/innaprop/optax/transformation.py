"""The transformation: options, state, and the update of a tree of parameters."""

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
    """Updates made, int32 of shape ()."""
    momentum: Any
    """The momentum of every parameter, in its dtype (float32 for 16 bits); zero at first. With
    ``state_bits=16`` int32 words, which momentum and second moment are packed into."""
    second_moment: Any
    """Likewise the second moment; None with ``state_bits=16``."""
    residual: Any
    """What of the float32 trajectory 16-bit parameters do not hold, int16; ``MaskedNode`` in the
    place of other parameters, None if there are only such."""


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
    """Return INNAprop, with AdamW's memory: a count and two arrays per parameter.

    Every hyperparameter may be a number or a scalar array, traced or not: of traced ones the
    values cannot be checked. Learning rate, alpha and beta may also be schedules: callables of
    the number of updates made before, an integer array, 0 at the first.

    ``update(gradients, state, params)`` takes float32, float64, bfloat16 and float16 parameters of
    any shapes and real floating gradients, and computes in the parameter's dtype, at least float32.
    The updates have that dtype. Those of 16-bit parameters are the difference of the new parameter
    and the old one, on which ``optax.apply_updates`` lands.

    Args:
        learning_rate: The paper's gamma, in [0, beta).
        alpha: Viscous damping, >= 0. Default 0.1.
        beta: Newtonian damping, > 0. Default 0.9.
        sigma: Memory of the second moment, in [0, 1). Default 0.999.
        eps: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0.
            Default 0.01.
        mask: Which parameters decay, as in ``optax.adamw``: a tree of booleans with the
            structure of the parameters or a prefix of it, or a callable that makes it of the
            parameters. Default None, all of them.
        residual: Whether 16-bit parameters get a residual of 16 bits, with which they follow the
            float32 trajectory, float16 ones within float16's range. Default True.
        decay_momentum: Whether weight decay reaches the momentum too, as Algorithm 1 says;
            without, the weight decays by gamma lambda and nothing else, as in AdamW. Default
            True.
        state_bits: Bits of each of the two numbers of a parameter's state: 32, or 16, of float32,
            bfloat16 and float16 parameters. Default None, 32: what is a number by default
            ``optax.inject_hyperparams`` takes for one that may change.
        seed: Where the draws begin by which a state of 16 bits is rounded; any integer. Default
            None, 0.

    Returns:
        An ``optax.GradientTransformationExtraArgs`` whose state is an ``INNApropState``.

    Raises:
        TypeError: An argument is of the wrong type. By ``init`` and ``update``: a parameter is
            not float32, float64, bfloat16 or float16, a gradient is not real and floating, the
            mask is not boolean, or the state is another transformation's.
        ValueError: A value is outside its range, or learning_rate >= beta. By ``update``:
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
        if leaves:  # optax.tree.map_params has something without leaves stand for all trees.
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
                "take it over by innaprop.save_state and innaprop.load_state"
            )
        momentums, second_moments = moments(parameters, state)
        residuals = parameters.residuals(state.residual)
        decays = parameters.mask(mask)

        thetas = _thetas(parameters, state)
        before = _count(state)
        count = optax.safe_increment(before)
        # int64 where JAX has it, so that schedules are computed in float64 there.
        values = options.at(before.astype(int))
        rows = [
            Row(theta, g.astype(theta.dtype), m, v)
            for theta, g, m, v in zip(thetas, gradients, momentums, second_moments, strict=True)
        ]
        # Rows of one dtype that decay alike have their scalars in common, and are one computation
        # where they are on the same devices.
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
        state: What ``init`` or ``update`` of ``innaprop`` returned; in the state of a chain or
            a wrapper, ``optax.tree.get(state, "INNApropState")`` finds it.
        params: The parameters that belong to it.
        alpha: Viscous damping of the last update, as given to ``innaprop``. Default 0.1.
        beta: Likewise the Newtonian damping. Default 0.9.

    Returns:
        A tree like ``params``, float32 for 16-bit parameters.

    Raises:
        TypeError: ``state`` is something else, or alpha or beta is not a number.
        ValueError: The state is not one of these parameters, or alpha or beta is outside its
            range.

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
    """Return the value of every parameter that the updates go on from.

    Args:
        state: What ``init`` or ``update`` of ``innaprop`` returned, as for ``psi``.
        params: The parameters that belong to it.

    Returns:
        A tree like ``params``: of a 16-bit parameter the float32 that it and its residual are
        together, of others the parameter itself.

    Raises:
        TypeError: ``state`` is something else.
        ValueError: The state is not one of these parameters.
    """
    _check_state(state)
    parameters = Parameters(params)
    return parameters.tree(_thetas(parameters, state))


def moments(parameters: Parameters, state: INNApropState) -> tuple[list[Any], list[Any]]:
    """Return the momentum and the second moment of each leaf.

    Raises:
        ValueError: The state was made for other parameters.
    """
    if state.second_moment is not None:
        momentums = parameters.state("momentum", state.momentum)
        return momentums, parameters.state("second_moment", state.second_moment)
    words = parameters.state("momentum", state.momentum, parameters.words())
    both = [functional.unpack(word) for word in words]
    return [m for m, _ in both], [v for _, v in both]


def _storage(state_bits: Any, seed: Any) -> tuple[int, int]:
    """Return the options of how state is stored, or refuse them."""
    state_bits = 32 if state_bits is None else state_bits
    seed = 0 if seed is None else seed
    for name, value in (("state_bits", state_bits), ("seed", seed)):
        if isinstance(value, jax.Array):
            raise TypeError(
                f"{name} must be an integer, got {value!r}; optax.inject_hyperparams takes it as "
                f"it is with static_args={name!r}"
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
    """Return the updates made, as an array.

    Raises:
        TypeError: They are not a number.
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
    """Return the devices of an array; None in a function that is traced."""
    return None if isinstance(array, jax.core.Tracer) else frozenset(array.devices())


def _thetas(parameters: Parameters, state: INNApropState) -> list[Any]:
    residuals = parameters.residuals(state.residual)
    return [
        p.astype(compute_dtype(p.dtype)) if r is None else functional.join(p, r)
        for p, r in zip(parameters.leaves, residuals, strict=True)
    ]
