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
    state_bits,
)

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        mechanism,
        memory,
        long_runs,
        second_moment,
        schedules,
        finetuning,
        recurrent,
        rivals,
        state_bits,
        images,
        control,
        language,
    )
}
"""In the order in which they run, the cheap ones first."""
