"""INNAprop as a ``torch.optim.Optimizer``."""

from innaprop.extras import extra

with extra("torch"):
    from innaprop.torch.diagnostics import Diagnostics, measure
    from innaprop.torch.groups import param_groups
    from innaprop.torch.in_backward import StepInBackward, step_in_backward
    from innaprop.torch.optimizer import INNAprop
    from innaprop.torch.trainers import (
        check_state_dict,
        optimizer_cls_and_kwargs,
        register_with_timm,
    )

__all__ = [
    "Diagnostics",
    "INNAprop",
    "StepInBackward",
    "check_state_dict",
    "measure",
    "optimizer_cls_and_kwargs",
    "param_groups",
    "register_with_timm",
    "step_in_backward",
]
