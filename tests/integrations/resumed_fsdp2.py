"""A run in FSDP2 that is stopped and goes on: ``resumed_fsdp2.py FOLDER PHASE DTYPE``.

Phase ``save`` trains, writes a checkpoint, and trains on; ``resume`` goes on from the checkpoint,
with as many processes as there are. Each leaves the master weights in ``FOLDER/PHASE-N.pt``, N
being the number of processes. Gradients are sums of small whole numbers over all of a batch, which
every dtype holds exactly: only the optimizer rounds.
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

from innaprop.torch import INNAprop, step_in_backward

BEFORE, AFTER, BATCH = 15, 15, 4


class Sums(torch.nn.Module):
    """A model whose gradient is its input, summed over the batch."""

    def __init__(self, dtype):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name, shape in {"a": (6, 3), "b": (5,), "c": (1,)}.items():
            value = torch.randn(shape, generator=generator).bfloat16().to(dtype)
            self.register_parameter(name, torch.nn.Parameter(value))

    def forward(self, inputs):
        return sum((p * inputs[name]).sum() for name, p in self.named_parameters())


def train(model, shapes, optimizer, dtype, steps):
    rank, world = dist.get_rank(), dist.get_world_size()
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        batch = {
            name: torch.randint(-3, 5, (BATCH, *shape), generator=generator)
            for name, shape in shapes.items()
        }
        # The mean over processes of sums over their shares, times the processes.
        own = {name: world * x[rank::world].sum(0).to(dtype) for name, x in batch.items()}
        optimizer.zero_grad()
        model(own).backward()
        optimizer.step()


def main():
    folder, phase, dtype = sys.argv[1], sys.argv[2], getattr(torch, sys.argv[3])
    dist.init_process_group("gloo")
    model = Sums(dtype)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    fully_shard(model)
    optimizer = INNAprop(
        model.parameters(), lr=1e-3 if phase == "save" else 0.5, alpha=2.0, beta=2.0
    )
    if phase == "save":
        train(model, shapes, optimizer, dtype, range(BEFORE))
    of_model, of_optimizer = get_state_dict(model, optimizer)
    held = {"model": of_model, "optimizer": of_optimizer}
    if phase == "save":
        dcp.save(held, checkpoint_id=f"{folder}/checkpoint")
    else:
        dcp.load(held, checkpoint_id=f"{folder}/checkpoint")
        set_state_dict(
            model,
            optimizer,
            model_state_dict=held["model"],
            optim_state_dict=held["optimizer"],
        )
        step_in_backward(model, optimizer)
    train(model, shapes, optimizer, dtype, range(BEFORE, BEFORE + AFTER))
    ends = [optimizer.master_weights(p).full_tensor() for p in model.parameters()]
    if dist.get_rank() == 0:
        torch.save(ends, f"{folder}/{phase}-{dist.get_world_size()}.pt")
    dist.barrier()
    dist.destroy_process_group()


main()
# Not by way of the interpreter's end, where a thread of gloo's now and then aborts the process.
os._exit(0)
