"""A 16-bit parameter and a 16-bit residual that together are a float32.

bfloat16 is the upper half of a float32's bits. Rounded to nearest (ties away from zero), it
differs from the whole by a number that fits 16 bits with sign: the residual. Both together
hold every finite float32 exactly.

float16 has fewer exponents. There the residual counts units of 2^-16 of float16's spacing at
the parameter: exact for every float32 in its normal range, and finer than 1e-12 below.

Whoever writes to the parameter leaves the residual, which is worth at most half a unit in the
parameter's last place: the written value is taken up, off by no more than what the next
rounding may do to it anyway. A parameter that is not finite has no residual.
"""

import torch
from torch import Tensor


def join(parameter: Tensor, residual: Tensor) -> Tensor:
    """Return the float32 that a parameter and its residual are.

    Args:
        parameter: bfloat16 or float16, of any shape.
        residual: int16, of the same shape.
    """
    finite = torch.isfinite(parameter)
    if parameter.dtype == torch.bfloat16:
        # Below zero's bits lie the NaNs: a negative residual cannot come from a split.
        kept = torch.where(parameter == 0, residual.clamp(min=0), residual)
        bits = (parameter.view(torch.int16).int() << 16) + torch.where(finite, kept, 0).int()
        return bits.view(torch.float32)
    base = parameter.float()
    return torch.where(finite, base + residual * _unit(base), base)


def split(value: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the parameter of this dtype, and the residual, that a float32 is made of.

    Args:
        value: float32, of any shape.
        dtype: ``torch.bfloat16`` or ``torch.float16``.
    """
    if dtype == torch.bfloat16:
        bits = value.view(torch.int32)
        upper = (bits + 0x8000) >> 16
        parameter = torch.where(torch.isnan(value), 0x7FC0, upper).short().view(torch.bfloat16)
        residual = bits - (upper << 16)
    else:
        parameter = value.half()
        base = parameter.float()
        residual = ((value - base) / _unit(base)).round().clamp(max=32767)
    return parameter, torch.where(torch.isfinite(parameter), residual, 0).short()


def _unit(base: Tensor) -> Tensor:
    exponent = ((base.view(torch.int32) >> 23) & 0xFF) - 126
    return torch.ldexp(torch.ones_like(base), exponent.clamp(min=-13) - 27)
