"""A float32 as a 16-bit parameter and a 16-bit residual, for every framework.

For bfloat16 this is ``innaprop_core.residual``. float16 has a smaller exponent range: there the
residual counts units of 2^-16 of float16's spacing at the parameter. This is exact for every
float32 in float16's normal range, and finer than 1e-12 below it. A parameter that is not finite has
residual 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from innaprop_core import residual as bfloat16

_EXPONENT = 0x7F800000
_SIGN = -0x80000000
_ONE = 127 << 23
_SMALLEST = (127 - 14) << 23
"""The bits of 2^-14, float16's smallest normal number: its spacing is constant below."""


class Operations(NamedTuple):
    """The functions needed of a framework, for arrays of any shape."""

    where: Callable[[Any, Any, Any], Any]
    """``where(condition, x, y)``, for arrays and numbers."""
    bits: Callable[[Any], Any]
    """float32 reinterpreted as int32."""
    real: Callable[[Any], Any]
    """int32 reinterpreted as float32."""
    integer: Callable[[Any], Any]
    """int16 to int32, or float32 to int32, truncated."""
    floating: Callable[[Any], Any]
    """int32 to float32."""
    to_float32: Callable[[Any], Any]
    """A 16-bit float to float32."""
    narrow: Callable[[Any, str], Any]
    """float32 rounded to "float16"; a float32 with the value of a "bfloat16" to that; int32 to
    "int16"."""
    round: Callable[[Any], Any]
    """float32 rounded to the nearest integer, ties to even."""
    shift: Callable[[Any, int], Any]
    """Arithmetic right shift of int32 by a constant."""


def join(parameter: Any, residual: Any, dtype: str, to: Operations) -> Any:
    """Return the float32 value of a parameter and its residual.

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
    """Split a float32 into a parameter and its residual.

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
    # Half a spacing up would be 32768 units, one more than int16 holds.
    rest = to.integer(to.where(finite, to.where(units > 32767, 32767.0, units), 0.0))
    return parameter, to.narrow(rest, "int16")


def to_float32(bits: Any, dtype: str, to: Operations) -> Any:
    """Return a 16-bit float as float32 by integer arithmetic, which compilers do not optimise away.

    XLA may remove a pair of casts to 16 bits and back (``xla_allow_excess_precision``), so that the
    value is never rounded.

    Args:
        bits: Those of the 16-bit float as int16, in an int32 array of any shape.
        dtype: "bfloat16" or "float16".
        to: The framework's operations; its ``to_float32`` is not used.
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
