"""Peak memory of a training step, with gradients kept and with gradients released in backward.

    python benchmarks/gradient_release.py

A stack of linear layers, whose gradients and state outweigh activations by far. What is counted is
what operations take part in or allocate, as the dispatcher sees it: parameters, gradients, state,
activations, to the byte.
"""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from innaprop.torch import INNAprop, step_in_backward

LAYERS, WIDTH, BATCH = 24, 256, 8
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


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def parameter_bytes():
    return sum(p.numel() * p.element_size() for p in model().parameters())


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


def peak(how):
    """Return the most bytes that are held at once in two steps, by all that takes part in them."""
    net, x = model(), torch.randn(BATCH, WIDTH)
    optimizer = None
    with Allocated() as allocated:
        if how == "AdamW in the backward pass":
            released_adamw(net)
        elif how == "AdamW":
            optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, foreach=False)
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
    return allocated.peak


if __name__ == "__main__":
    size = parameter_bytes()
    print(f"parameters: {size / 2**20:.1f} MiB; peak in multiples of that")
    for how in HOWS:
        print(f"{how:32} {peak(how) / size:.2f}")
