"""Times of optimizer steps that are compared."""

import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

WARM_UP = 3
"""Steps that are not counted: the first ones compile, make state and touch the memory."""


def medians(
    steps: Mapping[Key, Callable[[], object]],
    count: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, float]:
    """Return the median seconds of each step, all taken in turn, ``count`` times each.

    The turn is another one every time: whoever comes second finds what they share in the cache.
    ``time.process_time`` as the clock counts this process alone, on a machine that has other work.
    """
    turn, rng = list(steps), random.Random(0)
    seconds: dict[Key, list[float]] = {key: [] for key in steps}
    for _ in range(WARM_UP + count):
        rng.shuffle(turn)
        for key in turn:
            start = clock()
            steps[key]()
            seconds[key].append(clock() - start)
    return {key: statistics.median(values[WARM_UP:]) for key, values in seconds.items()}
