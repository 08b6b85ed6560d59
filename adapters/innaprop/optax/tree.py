"""Trees of parameters, and the trees that must have the same structure."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr, tree_flatten_with_path

_DTYPES = (jnp.float32, jnp.float64, jnp.bfloat16, jnp.float16)
_ABSTRACT = (jax.ShapeDtypeStruct, jax.core.ShapedArray)


def compute_dtype(dtype: Any) -> Any:
    """Return the dtype in which parameters of a dtype are updated: at least float32."""
    return jnp.dtype(jnp.float32) if dtype.itemsize == 2 else dtype


def trained(params: Any, gradients: Any, momentum: Any) -> Any:
    """Return params with None where both the gradients and the state's momentum are None.

    Equinox models have functions among their leaves, for which gradients and state are None.
    """

    def kept(g: Any, m: Any, p: Any) -> Any:
        return None if g is None and m is None else p

    try:
        return jax.tree.map(kept, gradients, momentum, params, is_leaf=lambda leaf: leaf is None)
    except (ValueError, TypeError):  # Parameters raises a better error.
        return params


class Parameters:
    """The leaves of a tree of parameters, by name.

    Args:
        params: A tree of float32, float64, bfloat16 and float16 arrays.
        abstract: Whether ``jax.ShapeDtypeStruct`` may stand for arrays. Default False.

    Raises:
        TypeError: A leaf is something else.
    """

    def __init__(self, params: Any, abstract: bool = False) -> None:
        paths, structure = tree_flatten_with_path(params)
        self._structure: Any = structure
        self._names = [f"params{keystr(path)}" for path, _ in paths]
        self.leaves: list[Any] = [
            leaf if abstract and isinstance(leaf, _ABSTRACT) else _array(leaf, name)
            for name, (_, leaf) in zip(self._names, paths, strict=True)
        ]
        for name, leaf in zip(self._names, self.leaves, strict=True):
            if leaf.dtype not in _DTYPES:
                raise TypeError(
                    "parameters must be float32, float64, bfloat16 or float16, got "
                    f"{leaf.dtype.name} for {name}; leave out what is not trained, with "
                    "optax.masked for example"
                )

    def tree(self, leaves: Iterable[Any]) -> Any:
        """Return a tree of this structure."""
        return jax.tree.unflatten(self._structure, leaves)

    def tree_of_some(self, leaves: Iterable[Any]) -> Any:
        """Return a tree with ``MaskedNode`` in place of None; None if all leaves are None."""
        leaves = list(leaves)
        if all(leaf is None for leaf in leaves):
            return None
        return self.tree(optax.MaskedNode() if leaf is None else leaf for leaf in leaves)

    def gradients(self, updates: Any) -> list[Any]:
        """Return the gradients, one for each leaf.

        Raises:
            TypeError: One is neither a number nor an array of real floating dtype.
            ValueError: The structures differ, one is None, or one has another shape than its
                parameter.
        """
        gradients = self._fitting("gradients", updates)
        for i, (name, p) in enumerate(zip(self._names, self.leaves, strict=True)):
            if gradients[i] is None:
                raise ValueError(
                    f"the gradient of {name} is None: give zeros, or leave the parameter out"
                )
            g = gradients[i] = _array(gradients[i], f"the gradient of {name}")
            # Python numbers are weakly typed: they take the dtype of the other operand.
            whole = g.weak_type and jnp.issubdtype(g.dtype, jnp.integer)
            if not (jnp.issubdtype(g.dtype, jnp.floating) or whole):
                raise TypeError(
                    f"the gradient of {name} must be real and floating, got {g.dtype.name}"
                )
            _check_shape(f"the gradient of {name}", g, p)
        return gradients

    def words(self) -> list[Any]:
        """Return the dtype of packed words for each leaf.

        Raises:
            TypeError: A parameter is float64, which does not allow ``state_bits=16``.
        """
        for name, p in zip(self._names, self.leaves, strict=True):
            if p.dtype == jnp.float64:
                raise TypeError(
                    "state_bits=16 needs parameters of float32, bfloat16 or float16, got float64 "
                    f"for {name}"
                )
        return [jnp.dtype(jnp.int32)] * len(self.leaves)

    def state(self, what: str, tree: Any, dtypes: Sequence[Any] | None = None) -> list[Any]:
        """Return one field of the state as a list, one array for each leaf.

        Args:
            what: Name of the field.
            tree: The field.
            dtypes: The required dtype for each leaf. Default None: the compute dtypes.

        Raises:
            ValueError: It does not fit the parameters.
        """
        leaves = self._fitting(f"the state's {what}", tree)
        if dtypes is None:
            dtypes = [compute_dtype(p.dtype) for p in self.leaves]
        for i, (name, p, dtype) in enumerate(zip(self._names, self.leaves, dtypes, strict=True)):
            if _is_number(leaves[i]):
                leaves[i] = jnp.asarray(leaves[i], dtype)
            elif isinstance(leaves[i], (np.ndarray, np.generic)):
                leaves[i] = jnp.asarray(leaves[i])
            leaf = leaves[i]
            _check_shape(f"the state's {what} of {name}", leaf, p)
            if leaf.dtype != dtype:
                raise ValueError(
                    f"the state's {what} of {name} must be {dtype.name} for "
                    f"{p.dtype.name} parameters, got {leaf.dtype.name}: call init again"
                )
        return leaves

    def residuals(self, tree: Any) -> list[Any]:
        """Return the residual of each leaf, None for those without.

        Raises:
            ValueError: They do not fit the parameters.
        """
        if tree is None:
            return [None] * len(self.leaves)
        leaves = self._fitting("the state's residual", tree)
        residuals = [None if isinstance(leaf, optax.MaskedNode) else leaf for leaf in leaves]
        for name, leaf, p in zip(self._names, residuals, self.leaves, strict=True):
            if leaf is None:
                continue
            _check_shape(f"the state's residual of {name}", leaf, p)
            if p.dtype == compute_dtype(p.dtype):
                raise ValueError(
                    f"the state has a residual for {name}, which is {p.dtype.name}, not a 16-bit "
                    "dtype: call init again"
                )
        return residuals

    def mask(self, mask: Any) -> list[bool]:
        """Return whether each leaf is selected.

        Args:
            mask: A tree of booleans (or equal values such as ``np.array(True)``) of this structure
                or a prefix of it; a callable that takes the parameters and returns one; or None,
                which selects all.

        Raises:
            TypeError: The mask contains something else, or a tracer.
            ValueError: The structures differ.
        """
        if mask is None:
            return [True] * len(self.leaves)
        # A tree may itself be callable, so the leaves are checked, as in optax.
        found = jax.tree.leaves(mask)
        if found and all(callable(leaf) for leaf in found):
            mask = mask(self.tree(self.leaves))
        try:
            broadcast = jax.tree.map(
                lambda chosen, part: jax.tree.map(lambda _: chosen, part),
                mask,
                self.tree(self.leaves),
            )
        except ValueError as error:
            raise ValueError(
                f"mask must have the structure of params or a prefix of it: {error}"
            ) from error
        return [_boolean(leaf) for leaf in jax.tree.leaves(broadcast)]

    def _fitting(self, what: str, tree: Any) -> list[Any]:
        try:
            return list(self._structure.flatten_up_to(tree))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{what} must have the structure of params: {error}") from error


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (int, float)) and not isinstance(leaf, (bool, np.generic))


def _array(leaf: Any, name: str) -> Any:
    if not (isinstance(leaf, (jax.Array, np.ndarray, np.generic)) or _is_number(leaf)):
        raise TypeError(f"{name} must be an array, got {leaf!r}")
    return jnp.asarray(leaf)


def _boolean(leaf: Any) -> bool:
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(
            f"mask must be known when a function is traced, got {leaf}: use Python or NumPy "
            "booleans"
        )
    value = np.asarray(leaf).item() if np.size(leaf) == 1 else leaf
    if isinstance(value, (bool, int, float)) and value in (True, False):
        return bool(value)
    raise TypeError(f"mask must hold True or False, got {leaf!r}")


def _check_shape(what: str, leaf: Any, parameter: Any) -> None:
    shape = getattr(leaf, "shape", None)
    if shape != parameter.shape:
        raise ValueError(f"{what} must have shape {parameter.shape}, got {shape}")
