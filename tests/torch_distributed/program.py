"""What the processes of these tests run: ``program.py FOLDER PHASE NAME``.

NAME is ``rank0`` or ``rank1`` of a process group of two; before joining it, rank 0 does the jobs
of a single process, ``alone``, which knows no process group. The phase ``train`` leaves
checkpoints in the folder; ``resume``, in processes that know nothing else, goes on from them.
Each leaves files of results, for the tests to compare.
"""

import copy
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.nn.parallel import DistributedDataParallel

from innaprop.forms.foreach import join
from innaprop.torch import INNAprop

IMPLEMENTATIONS = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
NARROW = {**IMPLEMENTATIONS, "narrow": {"state_bits": 16}}
"""With a state of 16 bits."""
OPTIONS = {"lr": 1e-2, "alpha": 0.1, "beta": 0.9, "weight_decay": 0.1}
OTHER_OPTIONS = {"lr": 1e-3, "alpha": 2.0, "beta": 2.0, "weight_decay": 0.0}
"""What a resumed optimizer is built with: the checkpoint has to bring the right ones."""

BEFORE, AFTER = 30, 10
"""Steps before the checkpoint, and steps whose losses are compared."""

# How the model is held, its dtype, the implementation.
OF_TWO = [
    ("fsdp2", torch.float32, "default"),
    ("fsdp2", torch.float32, "foreach"),
    ("fsdp2", torch.float32, "fused"),
    ("fsdp2", torch.float64, "default"),
    ("fsdp2", torch.bfloat16, "default"),
    ("fsdp2", torch.bfloat16, "fused"),
    ("fsdp2", torch.float32, "narrow"),
    ("fsdp2", torch.bfloat16, "narrow"),
    ("ddp", torch.float32, "default"),
    ("ddp", torch.bfloat16, "foreach"),
]
OF_ONE = [
    ("plain", torch.float64, "default"),
    ("plain", torch.bfloat16, "default"),
]
OF_ZERO = [(torch.float32, "default"), (torch.float32, "fused"), (torch.bfloat16, "foreach")]


def identify(*parts):
    return "-".join(str(part).removeprefix("torch.") for part in parts)


class Process:
    """This process's place in the group."""

    def __init__(self, folder, name):
        self.folder = Path(folder)
        self.name = name
        self.rank = int(name[-1]) if name != "alone" else 0
        self.world = 1 if name == "alone" else 2
        self.mesh = None if name == "alone" else init_device_mesh("cpu", (2,))

    def model(self, how, dtype, seed=0):
        """Return a net with sizes that two do not divide, one of them 1."""
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Linear(6, 7),
            torch.nn.Tanh(),
            torch.nn.Linear(7, 5),
            torch.nn.Tanh(),
            torch.nn.Linear(5, 1),
        ).to(dtype)
        return self.hold(net, how)

    def hold(self, net, how):
        if how == "fsdp2":
            for layer in net:
                if isinstance(layer, torch.nn.Linear):
                    fully_shard(layer, mesh=self.mesh)
            return fully_shard(net, mesh=self.mesh)
        return DistributedDataParallel(net) if how == "ddp" else net

    def train(self, model, optimizer, dtype, steps):
        """Return the losses of this rank's share of the batches."""
        losses = []
        for step in steps:
            generator = torch.Generator().manual_seed(1000 + step)
            x = torch.randn(32, 6, dtype=torch.float64, generator=generator)
            y = torch.sin(x.sum(1, keepdim=True))
            x, y = (t.to(dtype)[self.rank :: self.world] for t in (x, y))
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().double())
        return torch.stack(losses)


def local(tensor):
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def copies(tensors):
    return [local(t).clone() for t in tensors]


def contents(optimizer):
    """Return what this process holds: parameters with their residuals, and state."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = [optimizer.state[p] for p in parameters]
    residuals = [s.get("residual") for s in states]
    return {
        "wide": [
            local(p).clone() if r is None else join(local(p), local(r))
            for p, r in zip(parameters, residuals, strict=True)
        ],
        "step": copies(s["step"] for s in states),
        **{
            name: copies(s[name] for s in states)
            for name in ("momentum_buffer", "exp_avg_sq", "packed_state")
            if name in states[0]
        },
    }


def trajectory(process, how, dtype, implementation):
    model = process.model("ddp" if how == "zero" else how, dtype)
    start = copies(model.parameters())
    if how == "zero":
        optimizer = ZeroRedundancyOptimizer(
            model.parameters(), INNAprop, **OPTIONS, **IMPLEMENTATIONS[implementation]
        )
    else:
        optimizer = INNAprop(model.parameters(), **OPTIONS, **IMPLEMENTATIONS[implementation])
    losses = process.train(model, optimizer, dtype, range(BEFORE + AFTER))
    result = {"start": start, "end": copies(model.parameters()), "losses": losses}
    if how != "zero":
        result["psi"] = copies(optimizer.psi(p) for p in model.parameters())
    if how == "fsdp2":
        result["placed alike"] = all(
            s[name].placements == p.placements
            and s[name].shape == p.shape
            and s[name].to_local().shape == p.to_local().shape
            for p, s in optimizer.state.items()
            for name in ("momentum_buffer", "exp_avg_sq")
        )
    return result


class Sums(torch.nn.Module):
    """A model whose gradients are its inputs, exactly, wherever its parameters are."""

    def __init__(self, dtype):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name, shape in {"a": (5, 3), "b": (4,), "c": (1,)}.items():
            value = torch.randn(shape, generator=generator).to(torch.bfloat16).to(dtype)
            self.register_parameter(name, torch.nn.Parameter(value))

    def forward(self, inputs):
        return sum((p * inputs[name]).sum() for name, p in self.named_parameters())


def with_exact_gradients(process, how, dtype, implementation):
    """Return where 200 small steps lead, with gradients that even bfloat16 holds exactly."""
    model = Sums(dtype)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    start = [p.detach().clone() for p in model.parameters()]
    if how == "fsdp2":
        fully_shard(model, mesh=process.mesh)
    optimizer = INNAprop(
        model.parameters(), **{**OPTIONS, "lr": 1e-3}, **IMPLEMENTATIONS[implementation]
    )
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        of_ranks = [
            {n: torch.randint(-3, 6, s, generator=generator).to(dtype) for n, s in shapes.items()}
            for _ in range(2)
        ]
        optimizer.zero_grad()
        if how == "fsdp2":
            model(of_ranks[process.rank]).backward()
        else:
            (sum(model(inputs) for inputs in of_ranks) / 2).backward()
        optimizer.step()
    result = {"start": start, "end": copies(model.parameters())} | contents(optimizer)
    result["psi"] = copies(optimizer.psi(p) for p in model.parameters())
    return result


def save(process, how, dtype, implementation):
    """Write a checkpoint, and go on as if nothing had happened."""
    model = process.model(how, dtype)
    optimizer = INNAprop(model.parameters(), **OPTIONS, **NARROW[implementation])
    process.train(model, optimizer, dtype, range(BEFORE))
    held = contents(optimizer)
    state, optimizer_state = get_state_dict(model, optimizer)
    dcp.save(
        {"model": state, "optimizer": optimizer_state},
        checkpoint_id=process.folder / identify(how, dtype, implementation),
    )
    return {"held": held, "losses": process.train(model, optimizer, dtype, steps_after())}


def steps_after():
    return range(BEFORE, BEFORE + AFTER)


def resume(process, how, dtype, checkpoint, damage=None):
    model = process.model(how, dtype, seed=1)
    # How state is stored is the optimizer's own choice, which a checkpoint does not bring.
    bits = 16 if checkpoint.endswith("narrow") else 32
    optimizer = INNAprop(model.parameters(), **OTHER_OPTIONS, state_bits=bits)
    state, optimizer_state = get_state_dict(model, optimizer)
    loaded = {"model": state, "optimizer": optimizer_state}
    dcp.load(loaded, checkpoint_id=process.folder / checkpoint)
    if damage:
        for of_parameter in loaded["optimizer"]["state"].values():
            damage(of_parameter)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=loaded["model"],
        optim_state_dict=loaded["optimizer"],
    )
    options = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    held = contents(optimizer)
    losses = process.train(model, optimizer, dtype, steps_after())
    return {"held": held, "losses": losses, "options": options}


def without_momentum(of_parameter):
    of_parameter["momentum_buffer"].zero_()


def without_second_moment(of_parameter):
    of_parameter["exp_avg_sq"].zero_()


def without_count(of_parameter):
    of_parameter["step"].zero_()


def without_residual(of_parameter):
    of_parameter["residual"].zero_()


DAMAGES = {
    "momentum": (without_momentum, torch.float32),
    "second moment": (without_second_moment, torch.float32),
    "count": (without_count, torch.float32),
    "residual": (without_residual, torch.bfloat16),
}


def save_zero(process, dtype, implementation):
    model = process.model("ddp", dtype)
    optimizer = ZeroRedundancyOptimizer(
        model.parameters(), INNAprop, **OPTIONS, **IMPLEMENTATIONS[implementation]
    )
    process.train(model, optimizer, dtype, range(BEFORE))
    optimizer.consolidate_state_dict(to=0)
    if process.rank == 0:
        saved = (model.module.state_dict(), optimizer.state_dict())
        torch.save(saved, process.folder / identify("zero", dtype, implementation))
    return process.train(model, optimizer, dtype, steps_after())


def resume_zero(process, dtype, implementation):
    state, optimizer_state = torch.load(
        process.folder / identify("zero", dtype, implementation), weights_only=True
    )
    model = process.model("ddp", dtype, seed=1)
    model.module.load_state_dict(state)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), INNAprop, **OTHER_OPTIONS)
    optimizer.load_state_dict(optimizer_state)
    return process.train(model, optimizer, dtype, steps_after())


def resume_zero_alone(process, dtype, implementation):
    """Go on from ZeroRedundancyOptimizer's checkpoint with the optimizer itself."""
    state, optimizer_state = torch.load(
        process.folder / identify("zero", dtype, implementation), weights_only=True
    )
    model = process.model("plain", dtype, seed=1)
    model.load_state_dict(state)
    optimizer = INNAprop(model.parameters(), **OTHER_OPTIONS)
    optimizer.load_state_dict(optimizer_state)
    return process.train(model, optimizer, dtype, steps_after())


def through_full_state_dict(process, dtype, bits=32):
    """Gather the whole state on rank 0, and give it to new objects from there."""
    model = process.model("fsdp2", dtype)
    optimizer = INNAprop(model.parameters(), **OPTIONS, state_bits=bits)
    process.train(model, optimizer, dtype, range(BEFORE))
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model_state, state = get_state_dict(model, optimizer, options=options)
    model_state, state = copy.deepcopy((model_state, state))
    losses = process.train(model, optimizer, dtype, steps_after())

    other = process.model("fsdp2", dtype, seed=1)
    another = INNAprop(other.parameters(), **OTHER_OPTIONS, state_bits=bits)
    # Rank 1 has none: set_state_dict would take that for a wish to load nothing.
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(other, model_state, options=options)
    set_optimizer_state_dict(other, another, state, options=options)
    return losses, process.train(other, another, dtype, steps_after())


def through_flat_state_dict(process, alpha):
    """Give a state dict with flattened keys to new objects."""
    dtype = torch.float32
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    model = process.model("fsdp2", dtype)
    optimizer = INNAprop(model.parameters(), **{**OPTIONS, "alpha": alpha})
    process.train(model, optimizer, dtype, range(BEFORE))
    weights = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    losses = process.train(model, optimizer, dtype, steps_after())

    other = process.model("fsdp2", dtype, seed=1)
    other.load_state_dict(weights)
    another = INNAprop(other.parameters(), **{**OTHER_OPTIONS, "alpha": alpha})
    set_optimizer_state_dict(other, another, state, options=options)
    return losses, process.train(other, another, dtype, steps_after())


def partial_gradients(process, implementation):
    """Return where a replicated parameter goes whose gradients are still to be summed."""
    p = torch.nn.Parameter(DTensor.from_local(torch.ones(5), process.mesh, [Replicate()]))
    q = torch.nn.Parameter(torch.ones(5))
    options = {**OPTIONS, **IMPLEMENTATIONS[implementation]}
    optimizer, whole = INNAprop([p], **options), INNAprop([q], **options)
    for k in range(5):
        shares = [torch.full((5,), 1.0 + k), torch.linspace(-3, 2, 5)]
        p.grad = DTensor.from_local(shares[process.rank], process.mesh, [Partial()])
        q.grad = sum(shares)
        optimizer.step()
        whole.step()
    return local(p).clone(), q.detach().clone()


def schedule(updates):
    return 0.1 + 0.01 * updates


def jobs(process, phase):
    """Return the name, function and arguments of every job, in the same order on both ranks."""
    if phase == "train":
        alone = process.name == "alone"
        for dtype in (torch.float64, torch.float32):
            for implementation in IMPLEMENTATIONS:
                for how in ["plain"] if alone else ["ddp", "fsdp2", "zero"]:
                    case = (how, dtype, implementation)
                    yield identify("trajectory", *case), trajectory, case
        for case in OF_ONE if alone else OF_TWO:
            yield identify("save", *case), save, case
        if alone:
            case = ("plain", torch.float64, "default")
            yield identify("exact gradients", *case), with_exact_gradients, case
            return
        for implementation in IMPLEMENTATIONS:
            case = ("fsdp2", torch.bfloat16, implementation)
            yield identify("exact gradients", *case), with_exact_gradients, case
        for case in OF_ZERO:
            yield identify("save zero", *case), save_zero, case
        for dtype in (torch.float32, torch.bfloat16):
            yield identify("full", dtype), through_full_state_dict, (dtype,)
            yield identify("full", dtype, 16), through_full_state_dict, (dtype, 16)
        for implementation in IMPLEMENTATIONS:
            yield f"partial-{implementation}", partial_gradients, (implementation,)
        yield "flat-number", through_flat_state_dict, (0.1,)
        yield "flat-schedule", through_flat_state_dict, (schedule,)
    elif process.name == "alone":
        for how, dtype, implementation in OF_ONE:
            saved = identify("fsdp2", dtype, implementation)
            yield f"resume-{saved}", resume, (how, dtype, saved)
            saved = identify("plain", dtype, implementation)
            yield f"resume-{saved}", resume, (how, dtype, saved)
        case = OF_ZERO[0]
        yield identify("resume zero", *case), resume_zero_alone, case
    else:
        for how, dtype, implementation in OF_TWO:
            saved = identify(how, dtype, implementation)
            yield f"resume-{saved}", resume, (how, dtype, saved)
        for _, dtype, implementation in OF_ONE:
            saved = identify("plain", dtype, implementation)
            yield f"resume-{saved}", resume, ("fsdp2", dtype, saved)
        for name, (damage, dtype) in DAMAGES.items():
            saved = identify("fsdp2", dtype, "default")
            yield f"resume without {name}", resume, ("fsdp2", dtype, saved, damage)
        for case in OF_ZERO:
            yield identify("resume zero", *case), resume_zero, case


def run(folder, phase, name):
    process = Process(folder, name)
    results = {}
    for job, function, arguments in jobs(process, phase):
        try:
            results[job] = function(process, *arguments)
        except Exception:  # Every job fails or succeeds on both ranks: the next one can go on.
            results[job] = traceback.format_exc()
    torch.save(results, Path(folder) / f"{phase}-{name}.pt")


def main(folder, phase, name):
    warnings.filterwarnings("error", module=r"innaprop\.")
    torch.set_num_threads(1)
    if name == "rank0":
        run(folder, phase, "alone")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/{phase}-store",
        rank=int(name[-1]),
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    run(folder, phase, name)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
