"""A 16-bit parameter and a 16-bit residual that together are a float32, for every framework.

For bfloat16 this is ``innaprop_core.residual``. float16 has fewer exponents: there the residual
counts units of 2^-16 of float16's spacing at the parameter, which is exact for every float32 in
float16's normal range, and finer than 1e-12 below. A parameter that is not finite has no residual.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from innaprop_core import residual as bfloat16

_EXPONENT = 0x7F800000
_SIGN = -0x80000000
_ONE = 127 << 23
_SMALLEST = (127 - 14) << 23
"""The bits of 2^-14, from which on float16's spacing is the same down to zero."""


class Operations(NamedTuple):
    """What a framework has to offer, for arrays of any shape."""

    where: Callable[[Any, Any, Any], Any]
    """``where(condition, x, y)``, for arrays and numbers."""
    bits: Callable[[Any], Any]
    """The bits of float32 as int32."""
    real: Callable[[Any], Any]
    """The float32 of int32 bits."""
    integer: Callable[[Any], Any]
    """int16, or float32 cut to a whole number, as int32."""
    floating: Callable[[Any], Any]
    """int32 as float32."""
    to_float32: Callable[[Any], Any]
    """A 16-bit float as float32."""
    narrow: Callable[[Any, str], Any]
    """float32 rounded to "float16", or a float32 that is a "bfloat16" as that; int32 as "int16"."""
    round: Callable[[Any], Any]
    """float32 to the nearest whole number, ties to even."""
    shift: Callable[[Any, int], Any]
    """int32 shifted to the right by a constant, arithmetically."""


def join(parameter: Any, residual: Any, dtype: str, to: Operations) -> Any:
    """Return the float32 that a parameter and its residual are.

    Args:
        parameter: Array of any shape.
        residual: int16 array of that shape.
        dtype: The parameter's, "bfloat16" or "float16".
        to: The framework's operations.
    """
    base = to.to_float32(parameter)
    bits = to.bits(base)
    residual = to.integer(residual)
    if dtype == "bfloat16":
        return to.real(bfloat16.join(bits, residual, to.where))
    units = to.where((bits & _EXPONENT) != _EXPONENT, residual, 0)
    return base + to.floating(units) * to.real(_unit(bits, to.where))


def split(value: Any, dtype: str, to: Operations) -> tuple[Any, Any]:
    """Return the parameter, and its residual, that a float32 is made of.

    Args:
        value: float32 array of any shape.
        dtype: The parameter's, "bfloat16" or "float16".
        to: The framework's operations.

    Returns:
        The parameter, of its dtype, and the residual, int16; of that shape.
    """
    if dtype == "bfloat16":
        bits, rest = bfloat16.split(to.bits(value), to.where)
        return to.narrow(to.real(bits), dtype), to.narrow(rest, "int16")
    parameter = to.narrow(value, dtype)
    base = to.to_float32(parameter)
    bits = to.bits(base)
    finite = (bits & _EXPONENT) != _EXPONENT
    inverse = 2 * _ONE - _unit(bits, to.where)
    units = to.round((value - base) * to.real(inverse))
    # Half a spacing up is one unit more than an int16 holds.
    rest = to.integer(to.where(finite, to.where(units > 32767, 32767.0, units), 0.0))
    return parameter, to.narrow(rest, "int16")


def to_float32(bits: Any, dtype: str, to: Operations) -> Any:
    """Return a 16-bit float as float32 by integer arithmetic, which no compiler leaves out.

    XLA is free to drop a pair of casts, to 16 bits and back (``xla_allow_excess_precision``), and
    to hand on a number that was never rounded.

    Args:
        bits: Those of the 16-bit float as int16, in an int32 array of any shape.
        dtype: "bfloat16" or "float16".
        to: The framework's operations; its ``to_float32`` is not asked.
    """
    if dtype == "bfloat16":
        return to.real(bits * 0x10000)
    magnitude = bits & 0x7FFF
    infinite = magnitude >= 0x7C00
    normal = magnitude * 0x2000 + (112 << 23)
    subnormal = to.bits(to.floating(magnitude) * 2.0**-24)
    whole = to.where(magnitude < 0x400, subnormal, normal)
    whole = to.where(infinite, whole + (112 << 23), whole)
    return to.real(to.where(bits < 0, whole + _SIGN, whole))


def _unit(bits: Any, where: Callable[[Any, Any, Any], Any]) -> Any:
    """Return the bits of 2^-16 of float16's spacing, a power of 2, at a float32 of these bits."""
    exponent = bits & _EXPONENT
    return where(exponent > _SMALLEST, exponent, _SMALLEST) - (26 << 23)
