"""Momentum and second moment in one 32-bit word: half the memory of two float32, without bias.

Each is stored as a float of its own format, after the smallest normal number c has been added to
its size. So numbers far below c are spaced evenly down to zero, and numbers above it by a constant
share of themselves:

- the momentum with a sign, 12 bits of mantissa and c = 2^-3, up to 15.87, where it ends;
- the second moment with 10 bits and c = 2^-47, up to 2^22; from there on with 5 bits, to the end of
  float32.

These are 7 and 73 ranges, and 2 x 7 x 2^12 x 73 x 2^10 is just below 2^32. There is no scale beside
the words: a state has the parameter's shape, and can be cut wherever the parameter is.

What an update adds is mostly less than the spacing. So numbers are rounded down after a threshold
has been added that is spread evenly over the spacing: up with a probability of the distance from
the lower neighbour. Each update draws 32 bits, a hash of its number and a seed, of which the upper
ones are the momentum's thresholds and the lower ones the second moment's: whatever came before, the
rounding is right in the mean. Elements have thresholds apart, by the golden ratio. So a run can be
repeated, and resumed, bit by bit, on any number of threads.

``pack`` and ``unpack`` work on int32 arrays with operators only, as ``residual`` does; what has no
operator in every framework is handed in as ``Operations``.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

DRAWS = 1 << 24
"""After so many, draws come again; their numbers are exact in float32."""
LATTICE = -0x61C88647
"""How far the threshold of an element is from the next one's, in units of 2^-32."""
LARGEST = 15.873046875
"""In size, of a momentum."""

STATE_BITS = (32, 16)
"""What ``state_bits`` may be: bits of each of the two numbers of a parameter's state."""

_MANTISSA_OF_M, _LOW_OF_M = 12, -3
_MANTISSA_OF_V, _LOW_OF_V, _COARSE_OF_V = 10, -47, 22
_COARSER = 5
"""Bits of the mantissa that the second moment lacks above 2^22."""
_CODES_OF_M = 7 << _MANTISSA_OF_M
_BELOW_M, _BELOW_V = 23 - _MANTISSA_OF_M, 23 - _MANTISSA_OF_V
"""Bits of float32's mantissa that are cut off."""
_MAGNITUDE = 0x7FFFFFFF


class Operations(Protocol):
    """What a framework has to offer, for arrays of any shape."""

    @property
    def where(self) -> Callable[[Any, Any, Any], Any]:
        """``where(condition, x, y)``, for arrays and numbers."""

    @property
    def bits(self) -> Callable[[Any], Any]:
        """The bits of float32 as int32."""

    @property
    def real(self) -> Callable[[Any], Any]:
        """The float32 of int32 bits."""

    @property
    def integer(self) -> Callable[[Any], Any]:
        """float32 in the range of int32, cut to a whole number, as int32."""

    @property
    def floating(self) -> Callable[[Any], Any]:
        """int32 as float32."""

    @property
    def shift(self) -> Callable[[Any, int], Any]:
        """int32 shifted to the right by a constant, arithmetically."""


def check_storage(state_bits: Any, seed: Any) -> None:
    """Refuse options of how state is stored.

    Args:
        state_bits: One of ``STATE_BITS``.
        seed: Any integer.

    Raises:
        TypeError: One is not an integer.
        ValueError: ``state_bits`` is another number.
    """
    for name, value in (("state_bits", state_bits), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, got {value!r}")
    if state_bits not in STATE_BITS:
        allowed = ", ".join(map(str, STATE_BITS))
        raise ValueError(f"state_bits must be one of {allowed}, got {state_bits}")


NUMPY: Any = SimpleNamespace(
    where=np.where,
    bits=lambda x: x.view(np.int32),
    real=lambda bits: bits.view(np.float32),
    integer=lambda x: x.astype(np.int32),
    floating=lambda bits: bits.astype(np.float32),
    shift=lambda x, n: x >> np.int32(n),
)
"""``Operations`` of NumPy."""


def draw(k: Any, seed: int = 0) -> Any:
    """Return the number of the draw for an update.

    Args:
        k: Number of the update, 1 at the first; a number or a 0-d tensor.
        seed: Where draws begin; any integer. Default 0.

    Returns:
        A whole number in [0, ``DRAWS``), of k's type.
    """
    return (k + _hash(seed % 2**32) % DRAWS) % DRAWS


def turn(number: int) -> int:
    """Return what a draw adds to the thresholds of all elements, as a signed 32-bit integer.

    Args:
        number: From ``draw``.
    """
    return (_hash(number) + 2**31) % 2**32 - 2**31


def turn_of(number: Any, to: Operations) -> Any:
    """Return ``turn`` of a draw that is an int32 array."""
    x = number ^ (to.shift(number, 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ (to.shift(x, 15) & 0x1FFFF)
    x = x * (0x846CA68B - 2**32)
    return x ^ (to.shift(x, 16) & 0xFFFF)


def _hash(x: int) -> int:
    """Return a hash of a 32-bit number: lowbias32 of C. Wellons."""
    x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
    x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
    return x ^ (x >> 16)


def thresholds(index: Any, turned: Any) -> Any:
    """Return what is added to each element before it is rounded down, as int32.

    Args:
        index: Number of each element, from 0; int32 array of any shape.
        turned: From ``turn``, or ``turn_of``.
    """
    return index * LATTICE + turned


def pack(m: Any, v: Any, threshold: Any, to: Operations) -> Any:
    """Return the words that hold a momentum and a second moment, rounded.

    Args:
        m: Momentum; float32 array of any shape. What does not fit becomes ``LARGEST`` in size.
        v: Second moment, like m; not negative. What is not finite stays so.
        threshold: From ``thresholds``; int32 array of that shape.
        to: The framework's operations.

    Returns:
        int32 array of that shape; zero where m and v are.
    """
    of_m = to.shift(threshold, 32 - _BELOW_M) & ((1 << _BELOW_M) - 1)
    of_v = threshold & ((1 << _BELOW_V) - 1)
    sign = to.shift(to.bits(m), 31)
    size = to.bits(to.real(to.bits(m) & _MAGNITUDE) + 2.0**_LOW_OF_M)
    code = to.shift(size - _bits_of(_LOW_OF_M) + of_m, _BELOW_M)
    code = to.where(code > _CODES_OF_M - 1, _CODES_OF_M - 1, code)
    size = to.bits(v + 2.0**_LOW_OF_V)
    coarse = _bits_of(_COARSE_OF_V)
    narrowed = to.shift(size, _COARSER) + (coarse - (coarse >> _COARSER))
    size = to.where(size > coarse, narrowed, size)
    code_of_v = to.shift(size - _bits_of(_LOW_OF_V) + of_v, _BELOW_V)
    return code_of_v * (2 * _CODES_OF_M) + code + (sign & _CODES_OF_M)


def unpack(word: Any, to: Operations) -> tuple[Any, Any]:
    """Return the momentum and the second moment that words hold.

    Args:
        word: int32 array of any shape, from ``pack``.
        to: The framework's operations.

    Returns:
        Two float32 arrays of that shape, which ``pack`` makes the same word of with any threshold.
    """
    # Divided by 7 x 2^13: a seventh of 19 bits, for which float32 has bits enough.
    upper = to.shift(word, _MANTISSA_OF_M + 1) & 0x7FFFF
    code_of_v = to.integer(to.floating(upper) * 0.14285715)
    code = word - code_of_v * (2 * _CODES_OF_M)
    negative = code >= _CODES_OF_M
    code = to.where(negative, code - _CODES_OF_M, code)
    size = to.real(code * (1 << _BELOW_M) + _bits_of(_LOW_OF_M)) - 2.0**_LOW_OF_M
    bits = code_of_v * (1 << _BELOW_V) + _bits_of(_LOW_OF_V)
    above = bits - _bits_of(_COARSE_OF_V)
    bits = to.where(above > 0, bits + above * ((1 << _COARSER) - 1), bits)
    return to.where(negative, -size, size), to.real(bits) - 2.0**_LOW_OF_V


def _bits_of(exponent: int) -> int:
    """Return the bits of a power of two as float32."""
    return (exponent + 127) << 23
