"""Peak memory of a training step: gradients kept, released in backward, state on the host.

    python benchmarks/gradient_release.py [--device cuda]

A stack of linear layers, whose gradients and state outweigh activations by far. On the CPU what is
counted is what operations take part in or allocate, as the dispatcher sees it: parameters,
gradients, state, activations, to the byte. On a GPU it is what PyTorch's allocator held at most, of
a larger stack; with torchao installed, its CPU offload too.
"""

import argparse
import weakref
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from innaprop.torch import INNAprop, step_in_backward

LAYERS, BATCH = 24, 8
WIDTHS = {"cpu": 256, "cuda": 4096}
HOWS = [f"{name}{how}" for name in ("AdamW", "INNAprop") for how in ("", " in the backward pass")]


class Allocated(TorchDispatchMode):
    """Keeps account of storages that operations make, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._account(leaf.untyped_storage())
        return result

    def _account(self, storage):
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key, size):
        self._seen.discard(key)
        self.now -= size


OFFLOADED = ("AdamW, offloaded by torchao", "INNAprop, offloaded by torchao")


def model(device="cpu"):
    torch.manual_seed(0)
    width = WIDTHS[device]
    layers = (torch.nn.Linear(width, width, device=device) for _ in range(LAYERS))
    return torch.nn.Sequential(*layers)


def parameter_bytes(device="cpu"):
    return sum(p.numel() * p.element_size() for p in model(device).parameters())


def largest_parameter_bytes():
    return max(p.numel() * p.element_size() for p in model().parameters())


def released_adamw(net):
    """Do as PyTorch's tutorial does, with an optimizer for every parameter."""
    optimizers = {p: torch.optim.AdamW([p], lr=1e-3, foreach=False) for p in net.parameters()}

    def release(p):
        optimizers[p].step()
        p.grad = None

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(release)


def two_steps(how, net, device):
    optimizer, x = None, torch.randn(BATCH, WIDTHS[device], device=device)
    if how == "AdamW in the backward pass":
        released_adamw(net)
    elif how == "AdamW":
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, foreach=False)
    elif how in OFFLOADED:
        optimizer = offloaded(how, net)
    else:
        optimizer = INNAprop(net.parameters(), lr=1e-3)
        if how.endswith("backward pass"):
            step_in_backward(net, optimizer)
    for _ in range(2):
        if optimizer is not None:
            optimizer.zero_grad()
        net(x).square().mean().backward()
        if optimizer is not None:
            optimizer.step()


def offloaded(how, net):
    from torchao.optim import CPUOffloadOptimizer

    # The host's parameters get an optimizer each: its fastest form.
    kind = torch.optim.AdamW if how.startswith("AdamW") else INNAprop
    return CPUOffloadOptimizer(net.parameters(), kind, offload_gradients=True, lr=1e-3, fused=True)


def peak(how):
    """Return the most bytes that are held at once in two steps, by all that takes part in them."""
    net = model()
    with Allocated() as allocated:
        two_steps(how, net, "cpu")
    return allocated.peak


def peak_on_a_gpu(how):
    """Return the most bytes that PyTorch's allocator holds for tensors in two steps."""
    net = model("cuda")
    torch.cuda.reset_peak_memory_stats()
    two_steps(how, net, "cuda")
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Peak memory of a training step.")
    parser.add_argument("--device", default="cpu", choices=WIDTHS)
    device = parser.parse_args().device
    on_a_gpu = device == "cuda"
    hows = [*HOWS, *(OFFLOADED if on_a_gpu and find_spec("torchao") else ())]
    size = parameter_bytes(device)
    print(f"parameters: {size / 2**20:.1f} MiB; peak in multiples of that")
    # A process for each: a hook that holds its parameter, as AdamW's here, is never freed.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for how, most in zip(
            hows, pool.map(peak_on_a_gpu if on_a_gpu else peak, hows), strict=True
        ):
            print(f"{how:32} {most / size:.2f}", flush=True)
