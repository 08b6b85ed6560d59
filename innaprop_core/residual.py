"""Float32 master weights, split into bfloat16 parameters and 16-bit residuals.

bfloat16 is the upper half of a float32's bits. Round a float32 to the nearest bfloat16, ties away
from zero: the difference of their bit patterns is the residual, which fits into a signed 16-bit
integer. Parameter and residual together hold every finite float32 exactly. So a bfloat16
parameter follows the float32 trajectory, for 2 more bytes per parameter.

If the parameter is overwritten, by a loaded checkpoint for example, the old residual stays and is
added to the new value. It is at most half a unit in the parameter's last place, so the new value
is off by no more than one rounding to bfloat16. A parameter that is not finite has no residual.

``join`` and ``split`` work on bit patterns in int32. They use operators only, and take ``where``
as an argument, so that they accept the arrays of every framework. The bits of a bfloat16 are those
of the same number in float32.
"""

from collections.abc import Callable
from typing import Any

_EXPONENT = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF
_UPPER_HALF = -0x10000
_NAN = 0x7FC00000


def join(parameter: Any, residual: Any, where: Callable[[Any, Any, Any], Any]) -> Any:
    """Return the bits of the float32 that a parameter and its residual hold together.

    Args:
        parameter: Bits of a bfloat16 parameter, as float32; int32 array of any shape.
        residual: int32 array of the same shape, in [-32768, 32767].
        where: ``where(condition, x, y)`` for these arrays and for numbers.

    Returns:
        Bits of float32 values, int32 array of the same shape.
    """
    # One below the bits of zero is a NaN. ``split`` makes no such residual: the parameter has been
    # overwritten by zero.
    strayed = ((parameter & _MAGNITUDE) == 0) & (residual < 0)
    finite = (parameter & _EXPONENT) != _EXPONENT
    return parameter + where(finite & ~strayed, residual, 0)


def split(value: Any, where: Callable[[Any, Any, Any], Any]) -> tuple[Any, Any]:
    """Return the bits of the bfloat16 nearest to a float32, and the residual.

    Args:
        value: Bits of float32 values, int32 array of any shape.
        where: ``where(condition, x, y)`` for these arrays and for numbers.

    Returns:
        Bits of bfloat16 values, as float32, and residuals in [-32768, 32767]; int32 arrays of
        the same shape.
    """
    parameter = where((value & _MAGNITUDE) > _EXPONENT, _NAN, (value + 0x8000) & _UPPER_HALF)
    finite = (parameter & _EXPONENT) != _EXPONENT
    return parameter, where(finite, value - parameter, 0)
