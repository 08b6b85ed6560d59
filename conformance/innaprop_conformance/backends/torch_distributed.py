"""``innaprop.torch`` in two processes: replicated (DDP) and sharded (FSDP2)."""

import math
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from innaprop_conformance.backends.protocol import Backend
from innaprop_conformance.cases import Array, Case, few, flat
from innaprop_conformance.cases.dtypes import has_narrow_state, stored_as

RANKS = 2


class _TwoProcesses(Backend):
    """Runs every case in two processes, whose gradients average to the case's."""

    distributions = ("torch",)
    modules = ("torch",)
    mode = "distributed"
    features = frozenset({"groups", "decay groups", "damping schedules"})
    dtypes = ("float32", "float32+state16")

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases, since every step synchronizes two processes."""
        return few()

    def follow(self, case: Case, dtype: str) -> Array:
        return self._ranks.follow(case, dtype)

    @cached_property
    def _ranks(self) -> "_Ranks":
        return _Ranks(type(self).wrap)

    @staticmethod
    @abstractmethod
    def wrap(model: Any) -> Any:
        """Return the model, wrapped for distributed training."""


class TorchDDP(_TwoProcesses):
    """``innaprop.torch.INNAprop`` under ``DistributedDataParallel``."""

    @staticmethod
    def wrap(model: Any) -> Any:
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model)


class TorchFSDP2(_TwoProcesses):
    """``innaprop.torch.INNAprop`` under ``fully_shard``."""

    @staticmethod
    def wrap(model: Any) -> Any:
        from torch.distributed.fsdp import fully_shard

        return fully_shard(model)


class _Ranks:
    """The two processes, which wait for cases."""

    def __init__(self, wrap: Any) -> None:
        import torch.multiprocessing

        context = torch.multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._pipes = []
        self._processes = []
        for rank in range(RANKS):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, self._folder.name, wrap, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def follow(self, case: Case, dtype: str) -> Array:
        for pipe in self._pipes:
            pipe.send((case, dtype))
        replies: list[Any] = [pipe.recv() for pipe in self._pipes]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        first, second = replies
        if not np.array_equal(first, second, equal_nan=True):
            raise ValueError("the processes have come to different parameters")
        return np.asarray(first)


def _serve(rank: int, folder: str, wrap: Any, pipe: Any) -> None:
    import datetime

    import torch.distributed as dist

    dist.init_process_group(
        "gloo",
        init_method=f"file://{Path(folder, 'rendezvous')}",
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=120),
    )
    while True:
        try:
            case, dtype = pipe.recv()
        except EOFError:
            break
        try:
            pipe.send(np.array(list(_follow(rank, wrap, case, dtype))))
        except Exception as error:
            pipe.send(error)
    dist.destroy_process_group()


def _follow(rank: int, wrap: Any, case: Case, dtype: str) -> Iterator[Array]:
    import torch

    from innaprop.torch import INNAprop
    from innaprop_conformance.backends.torch import settings

    stored = stored_as(dtype)

    class Model(torch.nn.Module):
        """A model whose gradients are the inputs of its forward pass."""

        def __init__(self) -> None:
            super().__init__()
            # Scalars become vectors of one element: sharding needs a dimension.
            self.weights = torch.nn.ParameterList(
                torch.tensor(p, dtype=getattr(torch, stored)).reshape(p.shape or (1,))
                for p in case.parameters()
                if p.size
            )

        def forward(self, gradients: list[Any]) -> Any:
            return sum((w * g).sum() for w, g in zip(self.weights, gradients, strict=True))

    model = wrap(Model())
    state_bits = 16 if has_narrow_state(dtype) else 32
    rest = iter(model.parameters())
    optimizer = INNAprop(
        (
            {
                "params": [next(rest) for shape in group.shapes if math.prod(shape)],
                **settings(group),
            }
            for group in case.groups
        ),
        state_bits=state_bits,
    )
    # Exact in binary, with mean 1.
    share = (1.5, 0.5)[rank]
    for updates, gradients in enumerate(case.stream()):
        optimizer.zero_grad()
        model(
            [
                torch.tensor(share * g, dtype=getattr(torch, stored)).reshape(g.shape or (1,))
                for g in gradients
                if g is not None and g.size
            ]
        ).backward()
        for group, gamma in zip(optimizer.param_groups, case.gammas(updates), strict=True):
            group["lr"] = gamma
        optimizer.step()
        whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
        yield flat(case.picked([p.numpy(force=True).astype(np.float64) for p in whole]))
