"""The process of one player: ``python -m innaprop_conformance.handoff.worker PLAYER FOLDER``.

It plays the first half of every run and writes state, weights and trajectory into FOLDER. Then
it reads a line with a list of players, and goes on from where each of them has stopped, with
one optimizer after the other's run: what a state leaves behind would show. Its answers:
``{"played": "first"}``, ``{"played": "second"}``, and ``{"error": text, "source": player}`` for
what failed.
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
from innaprop_conformance.handoff.player import Array, Player, load_player, weights
from innaprop_conformance.processes import Message, answers

Say = Callable[[Message], None]


def state_file(folder: Path, run: str, dtype: str, source: str) -> Path:
    """Return where a player leaves its state."""
    return folder / f"{run},{dtype},{source}.safetensors"


def weights_file(folder: Path, run: str, dtype: str, source: str) -> Path:
    """Return where a player leaves the parameters' values, together with residuals."""
    return folder / f"{run},{dtype},{source}.npz"


def trajectory_file(folder: Path, run: str, dtype: str, source: str, target: str = "") -> Path:
    """Return where the trajectory of a first half is, or of a second half."""
    return folder / f"{run},{dtype},{source},{target or 'first'}.npy"


def play_first(player: Player, name: str, folder: Path) -> None:
    """Play the first half of every run, in every dtype."""
    for run_name in runs.names():
        run = runs.run(run_name)
        for dtype in runs.shared_dtypes(run_name, type(player)):
            player.begin(run.hyperparameters, run.start, dtype)
            iterates = _advance(player, run, 0, runs.HANDOFF)
            player.save(state_file(folder, run_name, dtype, name))
            np.savez(weights_file(folder, run_name, dtype, name), *player.values())
            np.save(trajectory_file(folder, run_name, dtype, name), iterates)


def play_second(player: Player, name: str, folder: Path, sources: list[str], say: Say) -> None:
    """Go on from where each of some players has stopped, in the dtypes that both offer."""
    for run_name in runs.names():
        run = runs.run(run_name)
        for dtype in runs.shared_dtypes(run_name, type(player)):
            player.begin(run.hyperparameters, run.start, dtype)
            for source in sources:
                if dtype not in load_player(source).dtypes:
                    continue
                try:
                    _take_over(player, folder, run_name, dtype, source)
                    iterates = _advance(player, run, runs.HANDOFF, runs.STEPS)
                    np.save(trajectory_file(folder, run_name, dtype, source, name), iterates)
                except Exception as error:
                    traceback.print_exc()
                    text = f"{run_name} in {dtype}: {type(error).__name__}: {error}"
                    say({"error": text, "source": source})


def _take_over(player: Player, folder: Path, run: str, dtype: str, source: str) -> None:
    with np.load(weights_file(folder, run, dtype, source)) as file:
        values: list[Array] = [file[key] for key in file.files]
    player.put(weights(values, dtype))
    player.load(state_file(folder, run, dtype, source))
    for i, (own, value) in enumerate(zip(player.values(), values, strict=True)):
        if own.dtype != value.dtype or not np.array_equal(own, value):
            raise ValueError(f"p{i} must be bit by bit what {source} has left, and is not")


def _advance(player: Player, run: runs.Run, start: int, stop: int) -> Flat:
    iterates = []
    for updates in range(start, stop):
        player.step(run.gradients[updates], run.gammas[updates])
        iterates.append(flat([v.astype(np.float64) for v in player.values()]))
    return np.array(iterates)


def main() -> None:
    """Play the player named on the command line."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    say = answers()
    player = load_player(name)()
    play_first(player, name, folder)
    say({"played": "first"})
    play_second(player, name, folder, json.loads(sys.stdin.readline()), say)
    say({"played": "second"})


if __name__ == "__main__":
    main()
