"""Common parameter groups: which parameters decay, and the learning rate of each layer."""

from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

KINDS = ("bias", "norm", "embedding")


def param_groups(
    model: nn.Module,
    *,
    weight_decay: float = 0.01,
    no_decay: Collection[str] = ("bias", "norm"),
    lr: float | None = None,
    layer_decay: float | None = None,
    depth: Callable[[str], int] | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups of a model, for INNAprop and every other PyTorch optimizer.

    Parameters that do not require gradients are left out. A parameter with several names, such as
    tied embeddings, is in one group; it does not decay if any of its names is excluded.

    Args:
        model: The module, of any dtype and on any device.
        weight_decay: The weight decay of the decaying groups, >= 0. Default 0.01.
        no_decay: Parameters with decay 0: "bias" (the last part of the name contains it), "norm"
            (parameters of modules whose class name contains Norm), "embedding" (parameters of
            torch.nn.Embedding, torch.nn.EmbeddingBag, and classes whose name contains Embedding),
            and ``fnmatch`` patterns of full names, such as "*.pos_embed".
            Default ("bias", "norm").
        lr: The learning rate of the last layer; required with layer_decay. Default None: groups
            have none, and use the optimizer's.
        layer_decay: The factor of the learning rate from each layer to the previous one, in
            (0, 1]. Default None: 1.
        depth: Takes a parameter's name and returns its layer, an integer counted from the input.
            Default: the blocks of the model's largest ``torch.nn.ModuleList`` or ``Sequential``
            are 1, 2, ...; parameters registered before them are 0, and those after them one more
            than the last block.

    Returns:
        A list of dicts with ``params`` (pairs of name and parameter; PyTorch keeps the names as
        ``param_names``), ``weight_decay``, ``name``, and ``lr`` if lr is given.

    Raises:
        TypeError: no_decay is a string, or lr is missing with layer_decay.
        ValueError: weight_decay, lr or layer_decay is outside its range; an entry of no_decay is
            not a kind and matches no name; or the model has no blocks to count and depth is not
            given.

    Example:
        >>> import torch
        >>> from innaprop.torch import INNAprop, param_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
        >>> groups = param_groups(model, weight_decay=0.1)
        >>> [(group["name"], len(group["params"])) for group in groups]
        [('decay', 1), ('no decay', 3)]
        >>> optimizer = INNAprop(groups, lr=1e-3)
    """
    if isinstance(no_decay, str):
        raise TypeError(f"no_decay must be a collection of strings, got {no_decay!r}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be >= 0, got {weight_decay!r}")
    if lr is not None and not lr >= 0:
        raise ValueError(f"lr must be >= 0, got {lr!r}")
    if layer_decay is not None:
        if lr is None:
            raise TypeError("lr must be a number where layer_decay is given, got None")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {layer_decay!r}")
    uses = list(_uses(model))
    spared = _spared(uses, no_decay)
    named: dict[nn.Parameter, str] = {}
    for name, p, _ in uses:
        if p.requires_grad:
            named.setdefault(p, name)
    depths = dict.fromkeys(named.values(), 0)
    if layer_decay is not None:
        of = depth or _depth_in_blocks(model, list(depths))
        depths = {name: of(name) for name in depths}
    last = max(depths.values(), default=0)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for p, name in named.items():
        layer, decays = depths[name], p not in spared
        words = (["decay"] if decays else ["no decay"]) + ([f"layer {layer}"] if last else [])
        group = groups.setdefault(
            (layer, decays),
            {
                "params": [],
                "weight_decay": weight_decay if decays else 0.0,
                "name": ", ".join(words),
            },
        )
        if lr is not None:
            group["lr"] = lr * (layer_decay or 1.0) ** (last - layer)
        group["params"].append((name, p))
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0], not key[1]))]


def _uses(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Yield every name of every parameter, with the parameter and the module that owns it."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, p in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{prefix}.{name}" if prefix else name, p, module


def _spared(
    uses: list[tuple[str, nn.Parameter, nn.Module]], no_decay: Collection[str]
) -> set[nn.Parameter]:
    """Return the parameters that do not decay."""
    spared = set()
    for entry in no_decay:
        found = {p for name, p, module in uses if _is(entry, name, module)}
        if not found and entry not in KINDS:
            raise ValueError(
                f"no_decay must have {', '.join(KINDS)} or patterns of parameters' names, got "
                f"{entry!r}, which no name matches"
            )
        spared |= found
    return spared


def _is(entry: str, name: str, module: nn.Module) -> bool:
    cls = type(module).__name__
    if entry == "bias":
        return "bias" in name.rpartition(".")[2]
    if entry == "norm":
        return "Norm" in cls
    if entry == "embedding":
        return isinstance(module, nn.Embedding | nn.EmbeddingBag) or "Embedding" in cls
    return fnmatchcase(name, entry)


def _depth_in_blocks(model: nn.Module, names: list[str]) -> Callable[[str], int]:
    """Return the layer of each name, counted by the blocks of the largest list of modules."""
    sizes = {
        prefix: sum(p.numel() for p in module.parameters())
        for prefix, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1
    }
    if not sizes:
        raise ValueError(
            "depth must be given for a model without a torch.nn.ModuleList or Sequential of "
            "several blocks, got None"
        )
    blocks = max(sizes, key=lambda prefix: sizes[prefix])
    start = f"{blocks}." if blocks else ""
    inside = [i for i, name in enumerate(names) if name.startswith(start)]
    layers = {
        block: layer
        for layer, block in enumerate(
            dict.fromkeys(names[i].removeprefix(start).partition(".")[0] for i in inside), 1
        )
    }
    depths = {
        name: (
            layers[name.removeprefix(start).partition(".")[0]]
            if name.startswith(start)
            else 0
            if i < inside[0]
            else len(layers) + 1
        )
        for i, name in enumerate(names)
    }
    return lambda name: depths[name]
