"""For trainers: registration by name, and options given as a string."""

import importlib
from typing import Any

import torch

from innaprop.torch.optimizer import INNAprop
from innaprop.torch.options import FLAGS, SCALARS, STORAGE
from innaprop.torch.state_dict import read_state_dict

_WORDS = {"true": True, "false": False, "none": None}
_NUMBERS = ("lr", *SCALARS)


def register_with_timm(name: str = "innaprop") -> None:
    """Register INNAprop by name for timm's ``create_optimizer_v2`` and ``list_optimizers``.

    Args:
        name: The name, in any case. Default "innaprop".

    Raises:
        ModuleNotFoundError: timm is not installed.
        ImportError: timm is older than 1.0.12 and has no registry.
        ValueError: timm has another optimizer of that name.

    Example:
        >>> from innaprop.torch import register_with_timm
        >>> register_with_timm()  # doctest: +SKIP
    """
    factory = importlib.import_module("timm.optim._optim_factory")
    if not hasattr(factory, "default_registry"):
        raise ImportError("register_with_timm needs timm 1.0.12 or newer, which has a registry")
    registry = factory.default_registry
    if name.lower() in registry.list_optimizers():
        if registry.get_optimizer_info(name).opt_class is INNAprop:
            return
        raise ValueError(f"name must be one that timm has not given yet, got {name!r}")
    registry.register(
        factory.OptimInfo(
            name=name,
            opt_class=INNAprop,
            description="Inertia and a curvature term on RMSprop's scaling",
        )
    )


def optimizer_cls_and_kwargs(
    training_args: Any = None, **options: Any
) -> tuple[type[INNAprop], dict[str, Any]]:
    """Return what Hugging Face's ``Trainer`` takes as ``optimizer_cls_and_kwargs``.

    Args:
        training_args: ``transformers.TrainingArguments``, of which ``learning_rate`` and the
            string ``optim_args`` ("alpha=2,beta=2") are used; or such a string. The Trainer
            itself sets ``weight_decay`` per group. Default None: all defaults.
        options: Options of INNAprop, which take precedence over those in the string.

    Returns:
        The class and its options, ready for ``Trainer(optimizer_cls_and_kwargs=...)``.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An entry of the string is not ``name=value`` with an option's name and a number
            (or true, false, none for a flag), or a value is outside its range.

    Example:
        >>> from innaprop.torch import optimizer_cls_and_kwargs
        >>> optimizer_cls_and_kwargs("alpha=2,beta=2", lr=1e-3)[1]
        {'alpha': 2.0, 'beta': 2.0, 'lr': 0.001}
    """
    text = training_args if isinstance(training_args, str) else None
    read: dict[str, Any] = {}
    if training_args is not None and text is None:
        read["lr"] = training_args.learning_rate
        text = training_args.optim_args
    kwargs = {**read, **_parsed(text or ""), **options}
    # The constructor checks the names and values of the options.
    INNAprop([torch.zeros(1, requires_grad=True)], **kwargs)
    return INNAprop, kwargs


def check_state_dict(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Raise if ``INNAprop.load_state_dict`` would reject a state dict.

    For engines that load state themselves, such as
    ``torch.distributed.optim.ZeroRedundancyOptimizer``: call it before they load.

    Args:
        optimizer: The engine's optimizer, whose parameter groups are INNAprop's.
        state_dict: The state dict to load. Neither it nor the optimizer is changed.

    Raises:
        TypeError: An option in it is of the wrong type.
        ValueError: It does not fit the optimizer: groups or shapes differ, entries are missing, or
            an option is outside its range.
    """
    read_state_dict(optimizer, state_dict)


def _parsed(text: str) -> dict[str, Any]:
    """Return the options in a string such as "alpha=2,beta=2"."""
    read: dict[str, Any] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in entry.partition("="))
        names = (*_NUMBERS, *FLAGS, *STORAGE)
        if not equals or name not in names:
            raise ValueError(
                f"optim_args must be name=value with one of {', '.join(names)}, separated by "
                f"commas, got {entry!r}"
            )
        try:
            if name in STORAGE:
                read[name] = int(value)
            else:
                read[name] = float(value) if name in _NUMBERS else _WORDS[value.lower()]
        except (ValueError, KeyError):
            allowed = "true, false or none" if name in FLAGS else "a number"
            allowed = "an integer" if name in STORAGE else allowed
            raise ValueError(f"{name} in optim_args must be {allowed}, got {value!r}") from None
    return read
