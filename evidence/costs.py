"""What ``make evidence`` takes: the time of one run of each kind, times their number."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from evidence.experiment import Experiment, Scale
from evidence.experiments import EXPERIMENTS
from evidence.store import RESULTS, Config, Result, Results, Run, key_of

COSTS = RESULTS / "costs.json"
_LOOKS = ("model", "shape", "batch", "steps", "what", "task", "width", "framework", "test", "form")


def kind(config: Config) -> str:
    """Return what runs of about the same cost have in common."""
    looks = {name: config[name] for name in _LOOKS if name in config}
    if config["experiment"] == "rivals":
        looks["optimizer"] = config["optimizer"]
    return key_of({"experiment": config["experiment"], **looks})


def all_runs(experiment: Experiment, scale: Scale) -> list[Config]:
    """Return all runs of an experiment, as they would be if the best rate were 3e-3 for all."""
    done = Results(None)
    objectives = {study.objective for study in experiment.studies(scale)}
    while missing := experiment.plan(scale, done):
        for config in missing:
            done.add(Run(config, _imagined(config, objectives), 0.0, ""))
    return [run.config for run in done]


def _imagined(config: Config, objectives: set[str]) -> Result:
    value = abs(math.log(config.get("lr", 3e-3) / 3e-3))
    scores = {name: [value] for name in objectives}
    return {"marks": [], "training": [], "validation": scores, "test": {}, "time": 0.0}


def measure(scale: Scale) -> Iterator[str]:
    """Time one run of each kind that is not timed yet, by the processor's clock; yield its name."""
    costs = read()
    for experiment in EXPERIMENTS.values():
        runs = {kind(config): config for config in all_runs(experiment, scale)}
        for name, config in runs.items():
            if name in costs:
                continue
            start = time.process_time()
            experiment.run(config)
            costs[name] = round(time.process_time() - start, 2)
            COSTS.write_text(json.dumps(costs, indent=0, sort_keys=True) + "\n", encoding="utf-8")
            yield f"{experiment.name}: {costs[name]} s"


def read(path: Path = COSTS) -> dict[str, float]:
    """Return the seconds of each kind that has been timed."""
    if not path.exists():
        return {}
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def estimate(experiment: Experiment, scale: Scale) -> tuple[int, float]:
    """Return how many runs an experiment has, about, and the seconds of one core that they take.

    NaN where a kind has not been timed.
    """
    costs = read()
    kinds = Counter(kind(config) for config in all_runs(experiment, scale))
    seconds = sum(count * costs.get(name, math.nan) for name, count in kinds.items())
    return sum(kinds.values()), seconds
