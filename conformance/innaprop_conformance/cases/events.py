"""Events between updates, ways to make updates, and repetitions of a run, as data.

A backend implements each as a user of its framework would. The exact trajectory does not depend on
the way.
"""

from dataclasses import dataclass

KINDS = {
    "reload": "the state is saved, and loaded into a new optimizer with other options and new "
    "parameters; the saved options apply",
    "portable reload": "the same, in the file format that all frameworks share",
    "hand over": "a new optimizer takes a state in memory, which must not change afterwards",
    "copy": "the run continues with a deep copy; the original makes an update too",
    "pickle": "the run continues with an unpickled copy; the original makes an update too",
    "change": "options of a group are set to other values",
    "add": "a parameter is added to the optimizer",
    "replace": "a parameter is assigned other values from outside; momentum and count stay",
    "relocate": "a parameter's values move to other memory",
    "skip": "a gradient of a scaled loss overflows, and the update is skipped",
}
"""Every kind of event, with a description."""

WAYS = {
    "defaults": "the optimizer is made without any option",
    "preset": "alpha and beta are given as the preset for final accuracy",
    "maximize": "the optimizer maximizes, and gets the negated gradients",
    "closure": "gradients are computed inside the step",
    "capturable": "counts and step sizes are tensors on the device",
    "loss scaling": "the loss is scaled, and the framework unscales the gradients",
    "accumulation": "gradients are accumulated from parts",
    "clip by value": "elements of gradients are clipped at `amount`",
    "clip by norm": "each gradient is clipped to the norm `amount`",
    "clip by global norm": "all gradients together are clipped to the norm `amount`",
    "moving average": "the framework's moving average of the parameters, with the momentum "
    "`amount`, is judged",
    "constraint": "the framework keeps every element between -amount and amount",
    "step in backward": "each parameter is updated in the backward pass",
    "excluded by name": "weights are excluded from decay by name",
    "excluded by mask": "weights are excluded from decay by a function",
    "step size schedule": "the step size is a schedule of the framework",
    "step size function": "the step size is a function",
    "sparse gradients": "gradients are sparse, with several entries for the same row",
    "strided gradients": "gradients are views with other strides",
    "strided parameters": "parameters are views with other strides",
    "complex": "the last axis holds real and imaginary parts",
    "psi": "the paper's psi, as the adapter reports it, is judged",
}
"""Every way, with a description."""

REPEATS = {
    "again": "the same run, repeated",
    "without events": "the run without its events",
    "one thread": "the run on one thread",
    "three threads": "the run on three threads",
}
"""The repetitions to which a run must be bitwise equal, with descriptions."""


@dataclass(frozen=True)
class Event:
    """Something that happens between two updates.

    Args:
        kind: One of ``KINDS``.
        at: Number of updates before it, including skipped ones.
        parameter: Index of the parameter that is added or replaced. Default None.
        group: Index of the group whose options change. Default 0.
        values: New values of options, by their names in ``Hyperparameters``. Default none.

    Raises:
        ValueError: The kind is unknown, or parameter or values do not fit it.
    """

    kind: str
    at: int
    parameter: int | None = None
    group: int = 0
    values: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.parameter is not None) != (self.kind in ("add", "replace")):
            raise ValueError(f"parameter must be given for add and replace, got {self}")
        if bool(self.values) != (self.kind == "change"):
            raise ValueError(f"values must be given for change, got {self}")
