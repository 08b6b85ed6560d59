"""What parameters are stored in: a dtype, or 16 bits with a residual."""

RESIDUAL = "+residual"
"""Ends the name of a 16-bit dtype whose parameters have a residual beside them."""

STORAGE = ("float32", "float64", "bfloat16", "float16", f"bfloat16{RESIDUAL}", f"float16{RESIDUAL}")
"""All that a backend may offer."""


def stored_as(dtype: str) -> str:
    """Return the dtype of the parameters themselves: "bfloat16" of "bfloat16+residual"."""
    return dtype.removesuffix(RESIDUAL)


def judged_as(dtype: str) -> str:
    """Return whose rounding is allowed: that of float32 for bfloat16 with a residual.

    Both together are a float32. float16 and its residual end at 2^-40: bounds of their own.
    """
    return "float32" if dtype == f"bfloat16{RESIDUAL}" else dtype
