"""One file an experiment."""

from evidence.experiment import Experiment
from evidence.experiments import (
    control,
    finetuning,
    images,
    language,
    long_runs,
    mechanism,
    memory,
    recurrent,
    rivals,
    schedules,
    second_moment,
)

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        mechanism,
        long_runs,
        memory,
        images,
        finetuning,
        language,
        rivals,
        schedules,
        second_moment,
        recurrent,
        control,
    )
}
"""In the order in which they run."""
