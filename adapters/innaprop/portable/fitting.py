"""Conversion of a state to an optimizer's names, layouts and dtypes, with checks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from innaprop.portable.snapshot import SIXTEEN_BITS, Array, ParameterState, Snapshot


class Target(NamedTuple):
    """A parameter of the optimizer that a state is loaded into."""

    shape: tuple[int, ...]
    dtype: str
    """"float32", "float64", "bfloat16" or "float16"."""
    residual: bool = False
    """Whether it has a residual; 16-bit parameters only."""


def by_name(parameters: Any) -> dict[str, Any]:
    """Return parameters by name.

    Args:
        parameters: A mapping, or pairs of a name and a parameter.

    Raises:
        TypeError: It is something else.
        ValueError: A name is given twice.
    """
    expected = "parameters must be a mapping of names to parameters, or pairs of both"
    if isinstance(parameters, Mapping):
        parameters = parameters.items()
    try:
        pairs = [(name, parameter) for name, parameter in parameters]
    except (TypeError, ValueError) as error:
        raise TypeError(f"{expected}, got {type(parameters).__name__}: {error}") from error
    for name, _ in pairs:
        if not isinstance(name, str):
            raise TypeError(f"{expected}, got the name {name!r}")
    check_unique([name for name, _ in pairs])
    return dict(pairs)


def check_unique(names: Iterable[str]) -> None:
    """Raise if names are not unique.

    Raises:
        ValueError: One is given twice.
    """
    twice = repeated(names)
    if twice:
        raise ValueError(
            f"names of parameters must be unique, got {listed(twice)} more than once; "
            "give other names with parameters={name: parameter}"
        )


def renamed(snapshot: Snapshot, names: Mapping[str, str]) -> Snapshot:
    """Return a state with other names of parameters.

    Args:
        snapshot: The state.
        names: Maps old names to new ones; other parameters keep their names.

    Raises:
        ValueError: An old name does not exist, or two parameters would get the same name.
    """
    unknown = [name for name in names if name not in snapshot.parameters]
    if unknown:
        raise ValueError(
            f"names must be those of the state, {listed(snapshot.parameters)}, "
            f"got {listed(unknown)}"
        )
    new = [names.get(name, name) for name in snapshot.parameters]
    twice = repeated(new)
    if twice:
        raise ValueError(f"names must give every parameter its own name, got twice {listed(twice)}")
    return replace(snapshot, parameters=dict(zip(new, snapshot.parameters.values(), strict=True)))


def transposed(snapshot: Snapshot, transposes: Mapping[str, Sequence[int]]) -> Snapshot:
    """Return a state with the axes of some parameters in another order.

    Args:
        snapshot: The state.
        transposes: Axes by name, as ``numpy.transpose`` takes them.

    Raises:
        ValueError: There is no parameter of that name, or the axes are not a permutation of its
            axes.
    """
    states = dict(snapshot.parameters)
    for name, axes in transposes.items():
        if name not in states:
            raise ValueError(
                f"transposes must be of parameters of the optimizer, got {name!r}; the state has, "
                f"by the optimizer's names, {listed(states)}"
            )
        state = states[name]
        axes, rank = tuple(axes), state.momentum.ndim
        if sorted(axes) != list(range(rank)):
            raise ValueError(
                f"transposes of {name!r} must be an order of the axes {tuple(range(rank))}, "
                f"got {axes}"
            )
        arrays: dict[str, Any] = {
            what: array.transpose(axes) for what, array in state.arrays().items()
        }
        states[name] = replace(state, **arrays)
    return replace(snapshot, parameters=states)


def fitted(snapshot: Snapshot, targets: Mapping[str, Target]) -> dict[str, ParameterState]:
    """Return the state of every parameter of an optimizer, in its dtypes and order.

    A residual is valid only for the dtype that it was saved with: for another one it is replaced by
    zeros, or dropped.

    Args:
        snapshot: The state, under the optimizer's names.
        targets: The optimizer's parameters.

    Raises:
        ValueError: A parameter is missing on either side, has another shape, or its state overflows
            the dtype.
    """
    missing = [name for name in targets if name not in snapshot.parameters]
    unknown = [name for name in snapshot.parameters if name not in targets]
    if missing or unknown:
        raise ValueError(
            "the state must be of the optimizer's parameters"
            + (f"; it has nothing for {listed(missing)}" if missing else "")
            + (f"; the optimizer has no {listed(unknown)}" if unknown else "")
            + "; names={their name: name here} tells which is which"
        )
    return {name: _fit(name, snapshot.parameters[name], t) for name, t in targets.items()}


def _fit(name: str, state: ParameterState, target: Target) -> ParameterState:
    shape = state.momentum.shape
    if shape != target.shape:
        order = sorted(shape) == sorted(target.shape)
        hint = f"; transposes={{{name!r}: axes}} gives the order of the axes" if order else ""
        raise ValueError(f"the state of {name!r} must have shape {target.shape}, got {shape}{hint}")
    dtype = "float64" if target.dtype == "float64" else "float32"
    residual: Array | None = None
    if target.residual and target.dtype in SIXTEEN_BITS:
        same = state.residual is not None and state.dtype == target.dtype
        residual = state.residual if same else np.zeros(shape, np.int16)
    return replace(
        state,
        dtype=target.dtype,
        momentum=_cast(f"momentum of {name!r}", state.momentum, dtype),
        second_moment=_cast(f"second_moment of {name!r}", state.second_moment, dtype),
        psi=None,
        residual=residual,
    )


def _cast(what: str, array: Array, dtype: str) -> Array:
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if not np.isfinite(cast).all():
        raise ValueError(f"{what} must be in the range of {dtype}, got {np.abs(array).max()}")
    return cast


def one_count(snapshot: Snapshot, framework: str) -> int:
    """Return the number of updates that all parameters share, for frameworks with one count.

    Args:
        snapshot: The state.
        framework: Name of the framework, for the message.

    Raises:
        ValueError: The numbers differ.
    """
    counts = {name: state.step for name, state in snapshot.parameters.items()}
    first = next(iter(counts.values()))
    for name, count in {"all calls together": snapshot.iterations, **counts}.items():
        if count != first:
            raise ValueError(
                f"{framework} counts updates once for all parameters: the numbers of updates in "
                f"the state must be equal, got {first} for {next(iter(counts))!r} and {count} for "
                f"{name!r}"
            )
    return first


def shared_numbers(
    states: Iterable[tuple[str, ParameterState]], *, excludes: bool = False
) -> dict[str, float]:
    """Return the hyperparameters that are numbers, for parameters that share them.

    Args:
        states: Names and states.
        excludes: Whether parameters can be excluded from weight decay: theirs may be 0 even if
            that of others is not. Default False.

    Raises:
        ValueError: They differ between parameters.
    """
    numbers: dict[str, float] = {}
    owners: dict[str, str] = {}
    nothing: dict[str, float] = {}
    for name, state in states:
        for key, value in state.hyperparameters.items():
            if value is None:
                continue
            if excludes and key == "weight_decay" and value == 0:
                nothing[key] = value
                continue
            if numbers.setdefault(key, value) != value:
                raise ValueError(
                    f"{key} must be the same for all parameters that share it here, got "
                    f"{numbers[key]} for {owners[key]!r} and {value} for {name!r}; "
                    "hyperparameters=False leaves the optimizer its own"
                )
            owners.setdefault(key, name)
    return nothing | numbers


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, in alphabetical order."""
    return sorted(name for name, times in Counter(names).items() if times > 1)


def listed(names: Iterable[Any], most: int = 5) -> str:
    """Format names for a message: the first few, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
