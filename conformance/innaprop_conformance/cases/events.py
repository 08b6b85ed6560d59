"""What happens in a run besides updates, and the ways to hand things over, as data.

A backend does each in the way of its framework, as a user would. What a run comes to is the same
whichever way that is.
"""

from dataclasses import dataclass

KINDS = {
    "reload": "the state is saved, and loaded into a new optimizer of other options for new "
    "parameters: the saved options hold",
    "portable reload": "the same, through the file that all frameworks share",
    "hand over": "a state is handed to a new optimizer in memory, and stays the caller's",
    "copy": "the run goes on with a deep copy; the original makes an update of its own",
    "pickle": "the run goes on with what was pickled",
    "change": "options of a group are set to other values",
    "add": "a parameter joins the optimizer, which knew nothing of it",
    "replace": "a parameter is given other values from outside; momentum and count stay",
    "relocate": "a parameter's values move to other memory",
    "skip": "a gradient overflows where a loss is scaled, and the whole update is left out",
}
"""Every kind of event, and what it stands for."""

WAYS = {
    "defaults": "the optimizer is made with no options at all",
    "preset": "alpha and beta are those of the preset for final accuracy",
    "maximize": "the optimizer ascends, and is given the negated gradients",
    "closure": "gradients are computed inside the step",
    "capturable": "counts and step sizes stay on the device",
    "loss scaling": "gradients are scaled, and unscaled by the framework",
    "accumulation": "gradients come in parts that add up",
    "clip by value": "elements of gradients are clipped at `amount`",
    "clip by norm": "each gradient is clipped to the norm `amount`",
    "clip by global norm": "all gradients together are clipped to the norm `amount`",
    "moving average": "what is judged is the framework's moving average of the parameters, whose "
    "momentum is `amount`",
    "excluded by name": "weights that do not decay are named",
    "excluded by mask": "weights that do not decay are chosen by a function",
    "step size schedule": "the step size is the framework's own schedule",
    "step size function": "the step size is a function",
    "sparse gradients": "gradients are rows, some of which are given twice and add up",
    "strided gradients": "gradients are views of larger arrays, in other layouts",
    "strided parameters": "parameters are views in other layouts",
    "complex": "the last axis holds real and imaginary parts",
    "psi": "what is judged is the paper's psi, as the adapter reports it",
}
"""Every way, and what it stands for."""

REPEATS = {
    "again": "the same run once more",
    "without events": "the run that nothing happens to",
    "one thread": "on one thread",
    "three threads": "on three threads",
}
"""With what a run must agree in every bit, and what that stands for."""


@dataclass(frozen=True)
class Event:
    """Something that happens between two updates.

    Args:
        kind: One of ``KINDS``.
        at: Updates made before it; a skipped update counts as made.
        parameter: Place of the parameter that is added or replaced. Default None.
        group: Place of the group whose options change. Default 0.
        values: Options that change, by the names of ``Hyperparameters``. Default none.

    Raises:
        ValueError: The kind is not known, or lacks its parameter or values.
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
