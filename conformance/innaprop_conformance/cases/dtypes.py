"""What parameters are stored in: a dtype, or 16 bits with a residual; and their state."""

RESIDUAL = "+residual"
"""In the name of a 16-bit dtype whose parameters have a residual beside them."""
STATE_16 = "+state16"
"""Ends the name of a dtype whose parameters have a state of 16 bits each."""

STORAGE = ("float32", "float64", "bfloat16", "float16", f"bfloat16{RESIDUAL}", f"float16{RESIDUAL}")
"""All that a backend may offer with a state of 32 bits or more."""
NARROW_STATE = (f"float32{STATE_16}", f"bfloat16{RESIDUAL}{STATE_16}")
"""All that it may offer with a state of 16 bits."""

FOLLOWED_WITH_NARROW_STATE = (
    "precision,fast", "precision,accurate", "precision,small-steps", "event,reload",
    "event,portable-reload", "event,add", "event,pickle", "way,psi", "repeat,fast",
)  # fmt: skip
"""Names of cases for backends that compile each anew, and cannot follow all that take it."""


def stored_as(dtype: str) -> str:
    """Return the dtype of the parameters themselves: "bfloat16" of "bfloat16+residual"."""
    return dtype.partition("+")[0]


def has_residual(dtype: str) -> bool:
    """Return whether parameters have a residual."""
    return RESIDUAL in dtype


def has_narrow_state(dtype: str) -> bool:
    """Return whether parameters have a state of 16 bits."""
    return dtype.endswith(STATE_16)


def judged_as(dtype: str) -> str:
    """Return whose rounding is allowed: that of float32 for bfloat16 with a residual.

    Both together are a float32. float16 and its residual end at 2^-40: bounds of their own.
    """
    return dtype.replace(f"bfloat16{RESIDUAL}", "float32")
