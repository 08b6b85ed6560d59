"""The dtypes of a run: names such as "bfloat16+residual+state16"."""

RESIDUAL = "+residual"
"""Follows a 16-bit dtype if the parameters have residuals."""
STATE_16 = "+state16"
"""Suffix for a state dtype of 16 bits: momentum and second moment have 16 bits each."""

STORAGE = ("float32", "float64", "bfloat16", "float16", f"bfloat16{RESIDUAL}", f"float16{RESIDUAL}")
"""All dtypes that a backend may support with a state dtype of 32 bits or more."""
NARROW_STATE = (f"float32{STATE_16}", f"bfloat16{RESIDUAL}{STATE_16}")
"""All dtypes that it may support with a state dtype of 16 bits."""

FOLLOWED_WITH_NARROW_STATE = (
    "precision,fast", "precision,accurate", "precision,small-steps", "event,reload",
    "event,portable-reload", "event,add", "event,pickle", "way,psi", "repeat,fast",
)  # fmt: skip
"""Names of cases for backends that compile each anew, and cannot follow all that take it."""


def stored_as(dtype: str) -> str:
    """Return the dtype of the parameters themselves: "bfloat16" for "bfloat16+residual"."""
    return dtype.partition("+")[0]


def has_residual(dtype: str) -> bool:
    """Return whether the parameters have residuals."""
    return RESIDUAL in dtype


def has_narrow_state(dtype: str) -> bool:
    """Return whether the state dtype has 16 bits."""
    return dtype.endswith(STATE_16)


def judged_as(dtype: str) -> str:
    """Return the dtype whose rounding errors are allowed.

    It is float32 for bfloat16 with residuals, which together hold a float32. float16 with residuals
    ends at 2^-40, and has its own error bounds.
    """
    return dtype.replace(f"bfloat16{RESIDUAL}", "float32")
