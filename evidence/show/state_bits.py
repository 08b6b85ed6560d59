"""The table of runs with a state of 16 bits, beside those with 32."""

from evidence.contenders import ACCURATE, FAST
from evidence.experiment import Scale
from evidence.experiments.state_bits import CHANGES, grid, studies
from evidence.show.studies import UNITS, interval, markdown, number
from evidence.statistics import mean_and_spread, paired
from evidence.store import Results


def table(done: Results, scale: Scale) -> str:
    """Return means, spreads and paired differences of all tasks; nothing while a run is missing."""
    configs = grid(scale)
    if any(config not in done for config in configs):
        return ""
    rows = []
    for study in studies(scale):
        for pair in (FAST, ACCURATE):
            of_pair = [
                config
                for config in configs
                if config["model"] == study.base["model"]
                and config["alpha"] == pair.options["alpha"]
            ]
            scores = [done[config]["test"][study.objective] for config in of_pair]
            plain, narrow, control = (scores[i :: len(CHANGES)] for i in range(len(CHANGES)))
            means = [mean_and_spread(values) for values in (plain, narrow)]
            difference = paired(narrow, plain)
            rows.append(
                [
                    study.name,
                    pair.name,
                    f"{of_pair[0]['lr']:g}",
                    UNITS[study.objective],
                    *(f"{number(mean)} ± {number(spread, 2)}" for mean, spread in means),
                    f"{interval(difference)} {difference.verdict}",
                    interval(paired(control, plain)),
                ]
            )
    head = ["task", "alpha, beta", "rate", "of what, on the test set", "32 bits", "16 bits"]
    return markdown([*head, "16 bits less 32 [95 %]", "eps + 0.1 %, less 32 bits"], rows)
