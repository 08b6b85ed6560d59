"""State that is saved and loaded: whole, or not at all."""

from collections.abc import Iterable
from typing import Any

from keras import ops

_MARK = "innaprop"
_UNBUILT = "iteration", "learning_rate"


def mark(store: Any, decays: list[bool]) -> None:
    """Write into a store whose state it holds: Adam's has the same shapes.

    Args:
        store: Where the variables' values are.
        decays: Of each model variable whether it is decayed, which Keras does not save.
    """
    store[_MARK] = ops.convert_to_numpy(ops.convert_to_tensor(decays, "int32"))


def read(store: Any, variables: list[Any], trainable: int) -> tuple[list[Any], list[bool]]:
    """Return the values that a store has for an optimizer's variables, and what ``mark`` got.

    The state of an optimizer that was not built holds no more than count and learning rate; the
    rest is zero, and nothing is known of the decay.

    Args:
        store: What ``mark`` has written into.
        variables: The optimizer's variables.
        trainable: The number of model variables that it was built with.

    Raises:
        ValueError: The store holds no state, that of another optimizer, of another model or of
            other options; or the optimizer is not built.
    """
    if not store.keys():
        raise ValueError("there is none: the model was saved without an optimizer at this place")
    if _MARK not in store.keys():  # noqa: SIM118 - an H5 entry is no dict
        raise ValueError("it is another optimizer's, and not that of an innaprop.keras.INNAprop")
    n = len(store.keys()) - 1
    unbuilt = [v for v in variables if v.name in _UNBUILT]
    if len(variables) == len(unbuilt) < n:
        raise ValueError(
            "this optimizer is not built: to load its state too, call "
            "optimizer.build(model.trainable_variables) first (pickle and copy.deepcopy keep the "
            "state of an optimizer as part of its model alone)"
        )
    values = [store[str(i)] for i in range(n)]
    if n == len(unbuilt) < len(variables):
        values += [ops.zeros(v.shape, v.dtype) for v in variables[n:]]
    check_values(values, variables)
    decays = [bool(decays) for decays in store[_MARK]]
    if len(decays) not in (0, trainable):
        raise ValueError(
            f"it is of {len(decays)} trainable variables, and this optimizer of {trainable}"
        )
    return values, decays


def check_values(values: Iterable[Any], variables: list[Any]) -> None:
    """Refuse values that are not one for each variable, of its shape.

    Raises:
        ValueError: There are more or fewer, or one has another shape.
    """
    values = list(values)
    if len(values) != len(variables):
        raise ValueError(
            f"the state must have {len(variables)} variables, as this optimizer has, got "
            f"{len(values)}: it is of another model, of other trainable layers (frozen, or given "
            "LoRA, since the optimizer was built), or of other options (learning_rate a number or "
            "a schedule, residual, use_ema, gradient_accumulation_steps)"
        )
    for value, variable in zip(values, variables, strict=True):
        if tuple(value.shape) != tuple(variable.shape):
            raise ValueError(
                f"the state of {variable.path} must have shape {tuple(variable.shape)}, "
                f"got {tuple(value.shape)}"
            )
