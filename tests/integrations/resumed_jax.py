"""A run in JAX that is stopped and goes on: ``resumed_jax.py FOLDER PHASE RANK WORLD PORT``.

As in ``resumed_fsdp2.py``; parameters and state are sharded over (data, model), two devices to a
process, and Orbax keeps them.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from innaprop.optax import innaprop

BEFORE, AFTER = 15, 15
SHAPES = {"a": (6, 4), "b": (2,)}


def main():
    folder, phase = Path(sys.argv[1]), sys.argv[2]
    rank, world, port = map(int, sys.argv[3:])
    jax.config.update("jax_num_cpu_devices", 2)
    if world > 1:
        jax.distributed.initialize(f"localhost:{port}", num_processes=world, process_id=rank)
    mesh = Mesh(np.array(jax.devices()).reshape(world, 2), ("data", "model"))
    split = {
        "a": NamedSharding(mesh, PartitionSpec("data", "model")),
        "b": NamedSharding(mesh, PartitionSpec("model")),
    }
    rng = np.random.default_rng(0)
    values = {n: rng.normal(size=s).astype(jnp.bfloat16) for n, s in SHAPES.items()}

    def placed(tree):
        return {
            name: jax.make_array_from_callback(x.shape, split[name], lambda i, x=x: x[i])
            for name, x in tree.items()
        }

    optimizer = innaprop(1e-3, alpha=2.0, beta=2.0)
    params = placed(values)
    state = optimizer.init(params)
    # Orbax restores an array to its place, and the count has been given none yet.
    count = jax.device_put(state.count, NamedSharding(mesh, PartitionSpec()))
    held = {"params": params, "state": state._replace(count=count)}

    @jax.jit
    def update(held, gradients):
        updates, state = optimizer.update(gradients, held["state"], held["params"])
        return {"params": optax.apply_updates(held["params"], updates), "state": state}

    def train(held, steps):
        for step in steps:
            rng = np.random.default_rng(step)
            gradients = {
                n: rng.integers(-3, 5, size=s).astype(jnp.bfloat16) for n, s in SHAPES.items()
            }
            held = update(held, placed(gradients))
        return held

    checkpointer = ocp.StandardCheckpointer()
    if phase == "save":
        held = train(held, range(BEFORE))
        checkpointer.save(folder / "checkpoint", held)
        checkpointer.wait_until_finished()
    else:
        held = checkpointer.restore(folder / "checkpoint", held)
    held = train(held, range(BEFORE, BEFORE + AFTER))
    for name, p in held["params"].items():
        assert held["state"].momentum[name].sharding.is_equivalent_to(p.sharding, p.ndim)
    ends = held if world == 1 else multihost_utils.process_allgather(held, tiled=True)
    if rank == 0:
        leaves = {str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(ends))}
        leaves = {n: x.view("int16") if x.dtype == jnp.bfloat16 else x for n, x in leaves.items()}
        np.savez(folder / f"{phase}-{world}.npz", **leaves)


main()
