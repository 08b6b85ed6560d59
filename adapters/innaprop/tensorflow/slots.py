"""The state ("slots") of variables: creation, and the index of each variable."""

import contextlib
from typing import Any, NamedTuple

import tensorflow as tf

from innaprop.forms import variables


class Slots(NamedTuple):
    """The state of one variable: each a ``tf.Variable`` with the same placement."""

    momentum: Any
    """Of the variable's shape and ``state_dtype``; or packed words, uint32."""
    second_moment: Any
    """Likewise; None if packed."""
    updates: Any
    """The number of updates, an int64 scalar."""
    residual: Any
    """int16, of the variable's shape, for a 16-bit variable; else None."""


def state_dtype(variable: Any) -> Any:
    """Return the dtype of a variable's state: its own; float32 for bfloat16 and float16."""
    return tf.float32 if variable.dtype.size == 2 else variable.dtype


def make_slots(variable: Any, with_residual: bool, state_bits: int) -> Slots:
    """Create the state of a variable, all zero, outside any function that is being traced.

    Args:
        variable: ``tf.Variable`` of fully defined shape.
        with_residual: Whether a bfloat16 or float16 variable gets a residual.
        state_bits: 32 or 16.

    Raises:
        ValueError: A ``tf.function`` that was traced before is being retraced.
    """
    name = variable.name.partition(":")[0]
    dtype = state_dtype(variable)
    packs = state_bits == 16

    def make(suffix: str, shape: Any, dtype: Any) -> Any:
        zeros = tf.zeros(shape, dtype)
        return tf.Variable(zeros, trainable=False, name=f"{name}/{suffix}")

    try:
        with scope_of(variable):
            return Slots(
                make("momentum", variable.shape, variables.WORDS if packs else dtype),
                None if packs else make("second_moment", variable.shape, dtype),
                make("updates", (), tf.int64),
                make("residual", variable.shape, tf.int16)
                if with_residual and variable.dtype != dtype
                else None,
            )
    except ValueError as error:
        raise ValueError(
            f"the state of {variable.name} cannot be created in a tf.function that was "
            "traced before; call build(var_list) with all variables beforehand"
        ) from error


def scope_of(variable: Any) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of the strategy under which a variable was created, if any."""
    if isinstance(variable, tf.distribute.DistributedValues):
        return variable.distribute_strategy.scope()  # type: ignore[no-any-return]
    return contextlib.nullcontext()


class Index:
    """The index of each variable in the lists of state.

    A plain object, since ``tf.Module`` would track a dict for saving, and cannot save a dict keyed
    by variables.

    A deep copy refers to the copies of variables that are copied along, and to the same variables
    otherwise. Which ones are copied is known only after the whole copy, so it is resolved lazily.
    """

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}
        self._copied: dict[int, Any] | None = None

    def append(self, variable: Any) -> None:
        """Give a variable the next index."""
        places = self._resolved()
        places[variable.ref()] = len(places)

    def variables(self) -> list[Any]:
        """Return the variables in the order of their indices."""
        return [ref.deref() for ref in self._resolved()]

    def __contains__(self, variable: Any) -> bool:
        return variable.ref() in self._resolved()

    def __getitem__(self, variable: Any) -> int:
        return self._resolved()[variable.ref()]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Index":
        copied = Index()
        copied._places, copied._copied = dict(self._resolved()), memo
        return copied

    def _resolved(self) -> dict[Any, int]:
        if self._copied is not None:
            variables = [ref.deref() for ref in self._places]
            copies = [self._copied.get(id(variable), variable) for variable in variables]
            self._places = {variable.ref(): place for place, variable in enumerate(copies)}
            self._copied = None
        return self._places
