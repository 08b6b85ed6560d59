"""Bytes of state, and the peak of a training step."""

import ctypes
import gc
import re
from pathlib import Path

import torch
from torch import nn

from evidence.contenders import ADAMW, FAST
from evidence.experiment import Experiment, Scale, undone
from evidence.models.transformers import GPT
from evidence.store import Config, Result, Results
from innaprop.torch import INNAprop

MIB = 2**20
MEASURED = 3
"""Training steps; the first makes the state."""


def grid(scale: Scale) -> list[Config]:
    """Return models and batches; AdamW and INNAprop, in the form that is taken and one by one."""
    shapes = {
        "smoke": [(64, 2)],
        "cores": [(256, 4), (512, 4), (768, 4)],
        "full": [(768, 12), (1280, 20)],
    }[scale.size]
    batches = scale.pick((1,), (1, 4, 16))
    device = scale.overrides.get("device", "cpu")
    return [
        {
            "experiment": "memory",
            "optimizer": optimizer,
            "form": form,
            "width": width,
            "depth": depth,
            "batch": batch,
            "context": scale.pick(16, 64, 512),
            "device": device,
        }
        for width, depth in shapes
        for batch in batches
        for optimizer in (ADAMW.name, FAST.name)
        for form in ("fused", "foreach")
    ]


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return undone(grid(scale), done)


def run(config: Config) -> Result:
    """Return the state's bytes a weight, and the peak of a training step above its start, in MiB.

    The model lies in memory at the start, so the peak has gradients, state, activations and what
    the optimizer needs for a moment.
    """
    device = torch.device(config["device"])
    torch.manual_seed(0)
    model = GPT(config["width"], config["depth"], 8, config["context"]).to(device)
    x = torch.randint(256, (config["batch"], config["context"] + 1), device=device)
    optimizer = make(config, model)
    meter = CudaMeter() if device.type == "cuda" else ProcessMeter()
    for _ in range(MEASURED):
        scores = model(x[:, :-1])
        nn.functional.cross_entropy(scores.flatten(0, 1), x[:, 1:].flatten()).backward()
        del scores
        optimizer.step()
        optimizer.zero_grad()
    peak = meter.peak()
    weights = sum(p.numel() for p in model.parameters())
    state = sum(
        value.numel() * value.element_size()
        for each in optimizer.state.values()
        for value in each.values()
        if torch.is_tensor(value)
    )
    return {
        "weights": weights,
        "state bytes": state,
        "bytes a weight": float(f"{state / weights:.6g}"),
        "peak MiB": round(peak / MIB, 1),
    }


def make(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that a configuration names, in its form."""
    fused = config["form"] == "fused"
    if config["optimizer"] == ADAMW.name:
        return torch.optim.AdamW(model.parameters(), fused=fused, foreach=not fused)
    return INNAprop(model.parameters(), fused=fused, foreach=not fused)


class CudaMeter:
    """The peak of what PyTorch holds on the device, since this was made."""

    def __init__(self) -> None:
        torch.cuda.reset_peak_memory_stats()
        self._start = torch.cuda.memory_allocated()

    def peak(self) -> int:
        """Return the peak above the start, in bytes."""
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - self._start


class ProcessMeter:
    """The peak of the process's resident memory, since this was made; on Linux."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self._start = _resident("VmRSS")

    def peak(self) -> int:
        """Return the peak above the start, in bytes."""
        return _resident("VmHWM") - self._start


def _resident(name: str) -> int:
    (kib,) = re.findall(rf"^{name}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(kib)


EXPERIMENT = Experiment(
    "memory",
    "Memory",
    "AdamW's memory.",
    plan,
    run,
)
