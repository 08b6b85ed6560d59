"""What parameters are stored in: a dtype, or 16 bits with a residual."""

RESIDUAL = "+residual"
"""Ends the name of a 16-bit dtype whose parameters have a residual beside them."""

STORAGE = ("float32", "float64", "bfloat16", "float16", f"bfloat16{RESIDUAL}", f"float16{RESIDUAL}")
"""All that a backend may offer."""


def stored_as(dtype: str) -> str:
    """Return the dtype of the parameters themselves: "bfloat16" of "bfloat16+residual"."""
    return dtype.removesuffix(RESIDUAL)


def judged_as(dtype: str) -> str:
    """Return the dtype whose rounding is allowed: float32 for 16 bits with a residual.

    Both together hold all bits of a float32, and are to be its trajectory.
    """
    return "float32" if dtype.endswith(RESIDUAL) else dtype
