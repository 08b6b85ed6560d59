"""Runs of the evidence again, with diagnostics attached: are healthy runs called healthy?

``python -m evidence.diagnosed`` makes one reported run of each preset in each study of the
experiments below, and prints what ``innaprop.torch.Diagnostics`` finds.
"""

from typing import Any
from unittest import mock

import click
from torch import Tensor

from evidence import training
from evidence.contenders import ACCURATE, FAST
from evidence.experiment import Scale
from evidence.experiments import EXPERIMENTS
from evidence.optimizers import Driver
from evidence.optimizers import backward as plain_backward
from evidence.protocol import REPORT_SEEDS, reported
from evidence.store import RESULTS, Config, Results
from innaprop.torch import Diagnostics, INNAprop

NAMES = ("long-runs", "finetuning", "recurrent", "images", "language")


def diagnosed(experiment: Any, config: Config, every: int) -> Diagnostics:
    """Make a run, and return the diagnostics that were attached to it."""
    attached: list[Diagnostics] = []

    class Watched(Driver):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            (optimizer,) = self.optimizers
            if isinstance(optimizer, INNAprop):
                attached.append(Diagnostics(optimizer, every=every, warn=False))

    def backward(loss: Tensor, *, second_order: bool) -> None:
        if attached:  # Fine-tuning starts with a run of AdamW.
            attached[-1].loss(loss.detach())
        plain_backward(loss, second_order=second_order)

    def rounded(scores: training.Scores) -> training.Scores:
        if attached:
            attached[-1].loss(validation=scores["loss"])
        return plain_rounded(scores)

    plain_rounded = training.rounded
    with mock.patch.multiple(training, Driver=Watched, backward=backward, rounded=rounded):
        experiment.run(config)
    return attached[-1]


@click.command()
@click.option("--every", default=10, show_default=True, help="Updates between two records.")
def main(every: int) -> None:
    """Say what diagnostics find in runs of the evidence."""
    scale = Scale()
    for name in NAMES:
        experiment = EXPERIMENTS[name]
        done = Results(RESULTS / f"{name}.jsonl")
        for study in experiment.studies(scale):
            for contender in (FAST, ACCURATE):
                report = reported(study, contender, done)
                if report is None:
                    continue
                config = {**report.config, "seed": REPORT_SEEDS[0], "test": True}
                found = diagnosed(experiment, config, every)
                told = "; ".join(str(finding) for finding in found.findings) or "nothing"
                print(f"{study.name}, {contender.name}: {len(found.records)} records: {told}")


if __name__ == "__main__":
    main()
