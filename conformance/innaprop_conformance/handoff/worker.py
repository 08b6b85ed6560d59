"""The process of one training loop: ``python -m innaprop_conformance.handoff.worker LOOP FOLDER``.

It runs the first half of every run, and writes state, weights and trajectory to FOLDER. Then it
reads a line with a list of training loops, and continues their runs. It loads all their states into
the same optimizer, one after another, so that anything left over from the previous run shows. It
answers ``{"finished": "first"}``, ``{"finished": "second"}``, and for every failure
``{"error": text, "source": loop}``.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from innaprop_conformance.cases import Array as Flat
from innaprop_conformance.cases import flat
from innaprop_conformance.handoff import runs
from innaprop_conformance.handoff.loop import Array, TrainingLoop, load_loop, weights
from innaprop_conformance.processes import Message, answers

Say = Callable[[Message], None]


def state_file(folder: Path, run: str, dtype: str, source: str) -> Path:
    """Return the file of the state after the first half in a training loop."""
    return folder / f"{run},{dtype},{source}.safetensors"


def weights_file(folder: Path, run: str, dtype: str, source: str) -> Path:
    """Return the file of the parameters, or their master weights, after the first half."""
    return folder / f"{run},{dtype},{source}.npz"


def trajectory_file(folder: Path, run: str, dtype: str, source: str, target: str = "") -> Path:
    """Return the file of the trajectory of the first half, or of the second in ``target``."""
    return folder / f"{run},{dtype},{source},{target or 'first'}.npy"


def run_first_half(loop: TrainingLoop, name: str, folder: Path) -> None:
    """Run the first half of every run, in every dtype."""
    for run_name in runs.names():
        run = runs.run(run_name)
        for dtype in runs.shared_dtypes(run_name, type(loop)):
            loop.begin(run.hyperparameters, run.start, dtype)
            iterates = _advance(loop, run, 0, runs.HANDOFF)
            loop.save(state_file(folder, run_name, dtype, name))
            np.savez(weights_file(folder, run_name, dtype, name), *loop.values())
            np.save(trajectory_file(folder, run_name, dtype, name), iterates)


def run_second_half(
    loop: TrainingLoop, name: str, folder: Path, sources: list[str], say: Say
) -> None:
    """Continue the runs of other training loops, in the dtypes that both support."""
    for run_name in runs.names():
        run = runs.run(run_name)
        for dtype in runs.shared_dtypes(run_name, type(loop)):
            loop.begin(run.hyperparameters, run.start, dtype)
            for source in sources:
                if dtype not in load_loop(source).dtypes:
                    continue
                try:
                    _take_over(loop, folder, run_name, dtype, source)
                    iterates = _advance(loop, run, runs.HANDOFF, runs.STEPS)
                    np.save(trajectory_file(folder, run_name, dtype, source, name), iterates)
                except Exception as error:
                    traceback.print_exc()
                    text = f"{run_name} in {dtype}: {type(error).__name__}: {error}"
                    say({"error": text, "source": source})


def _take_over(loop: TrainingLoop, folder: Path, run: str, dtype: str, source: str) -> None:
    with np.load(weights_file(folder, run, dtype, source)) as file:
        values: list[Array] = [file[key] for key in file.files]
    loop.put(weights(values, dtype))
    loop.load(state_file(folder, run, dtype, source))
    for i, (own, value) in enumerate(zip(loop.values(), values, strict=True)):
        if own.dtype != value.dtype or not np.array_equal(own, value):
            raise ValueError(f"p{i} must be bitwise equal to what {source} saved, and is not")


def _advance(loop: TrainingLoop, run: runs.Run, start: int, stop: int) -> Flat:
    iterates = []
    for updates in range(start, stop):
        loop.step(run.gradients[updates], run.gammas[updates])
        iterates.append(flat([v.astype(np.float64) for v in loop.values()]))
    return np.array(iterates)


def main() -> None:
    """Run the training loop named on the command line."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    say = answers()
    loop = load_loop(name)()
    run_first_half(loop, name, folder)
    say({"finished": "first"})
    run_second_half(loop, name, folder, json.loads(sys.stdin.readline()), say)
    say({"finished": "second"})


if __name__ == "__main__":
    main()
