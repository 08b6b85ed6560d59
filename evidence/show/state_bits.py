"""The table of runs with a state of 16 bits, beside those with 32."""

from collections import defaultdict

from evidence.contenders import ACCURATE, FAST
from evidence.experiment import Scale
from evidence.experiments import state_bits
from evidence.show.studies import UNITS, interval, markdown, number
from evidence.statistics import mean_and_spread, paired
from evidence.store import Results


def table(done: Results, scale: Scale) -> str:
    """Return means, spreads and paired differences of all tasks; nothing while a run is missing."""
    configs = state_bits.grid(scale)
    if any(config not in done for config in configs):
        return ""
    rows = []
    for study in state_bits.studies(scale):
        for pair in (FAST, ACCURATE):
            scores: dict[str, list[float]] = defaultdict(list)
            for config in configs:
                same = config["model"] == study.base["model"]
                if same and config["alpha"] == pair.options["alpha"]:
                    name = state_bits.change_of(config)
                    scores[name].append(done[config]["test"][study.objective])
                    rate = config["lr"]
            plain, narrow, control = scores.values()
            means = [mean_and_spread(values) for values in (plain, narrow)]
            difference = paired(narrow, plain)
            rows.append(
                [
                    study.name,
                    pair.name,
                    f"{rate:g}",
                    UNITS[study.objective],
                    *(f"{number(mean)} ± {number(spread, 2)}" for mean, spread in means),
                    f"{interval(difference)} {difference.verdict}",
                    interval(paired(control, plain)),
                ]
            )
    head = ["task", "alpha, beta", "rate", "of what, on the test set", "32 bits", "16 bits"]
    return markdown([*head, "16 bits less 32 [95 %]", "eps + 0.1 %, less 32 bits"], rows)
