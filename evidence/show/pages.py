"""Fill the generated parts of the pages: what stands between ``<!-- begin`` and ``<!-- end``."""

import math
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from matplotlib.figure import Figure

from evidence import costs
from evidence.contenders import ACCURATE, FAST, PLAIN
from evidence.experiment import Experiment, Scale
from evidence.experiments import EXPERIMENTS
from evidence.runner import suffix
from evidence.show import long_runs, mechanism, scaling, state_bits, studies
from evidence.show.style import Brush, embed, save
from evidence.store import Results

PART = re.compile(r"(<!-- begin (?P<name>[^<>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURES = "figures"
NOTHING = "*Not run yet.*"
REAL = Scale("full", {"device": "cuda"})


def make_pages(results: Path, docs: Path) -> None:
    """Fill in docs/evidence.md and docs/evidence/*.md from a folder of result files."""
    parts = Parts(results, docs / "evidence" / FIGURES)
    for path in [docs / "evidence.md", *sorted((docs / "evidence").glob("*.md"))]:
        parts.prefix = f"evidence/{FIGURES}" if path.name == "evidence.md" else FIGURES
        text = path.read_text(encoding="utf-8")
        path.write_text(PART.sub(lambda m: f"{m[1]}\n{parts(m['name'])}\n\n{m[3]}", text))


class Parts:
    """The generated parts, each made from the result files when it is asked for.

    Args:
        results: The folder of result files.
        figures: Where the figures go.
        size: Which runs are shown in the tables of two cores.
    """

    def __init__(self, results: Path, figures: Path, size: str = "cores") -> None:
        self._folder = results
        self._figures = figures
        self._scale = Scale(size)
        self._results: dict[str, Results] = {}
        self.prefix = FIGURES

    def __call__(self, name: str) -> str:
        """Return a part: ``KIND`` or ``KIND: WHAT``."""
        kind, _, what = name.partition(": ")
        makers: dict[str, Callable[[str], str]] = {
            "study": self._study,
            "real": self._real,
            "stability": lambda _: self._stability,
            "mechanism": self._mechanism,
            "long": self._long,
            "state bits": lambda _: state_bits.table(self.done("state-bits"), self._scale),
            "plan": lambda _: self._plan(),
            "scaling": lambda _: self._scaling(),
            "verdicts": self._verdicts,
            "rates": lambda _: self._rates(),
        }
        return makers[kind](what) or NOTHING

    def done(self, experiment: str, scale: Scale | None = None) -> Results:
        """Return an experiment's results."""
        name = f"{experiment}{suffix(scale or self._scale)}"
        if name not in self._results:
            self._results[name] = Results(self._folder / f"{name}.jsonl")
        return self._results[name]

    def _figure(self, name: str, draw: Callable[[Brush], Figure], alt: str, caption: str) -> str:
        save(self._figures, name, draw)
        return embed(f"{self.prefix}/{name}", alt, caption)

    def outcomes(self, experiment: Experiment, scale: Scale | None = None) -> list[studies.Outcome]:
        """Return what an experiment's studies found, the short budget beside where it is tuned."""
        scale = scale or self._scale
        done = self.done(experiment.name, scale)
        return studies.outcomes(experiment.studies(scale), done)

    def _study(self, name: str) -> str:
        shown = []
        for outcome in self.outcomes(EXPERIMENTS[name]):
            shown.append(studies.table(outcome))
            file = f"{name}-{_slug(outcome.study.name)}"
            if outcome.study.name.endswith("%"):
                continue  # The table tells it; another figure for each would tire.
            if len(outcome.study.contenders) > 4:
                if len(outcome.reports) > 1:
                    shown.append(
                        self._figure(
                            file,
                            lambda brush, o=outcome: studies.draw_dots(o, brush),  # type: ignore[misc]
                            _describe_dots(outcome),
                            f"{studies.caption(outcome)} Left of the line is better than AdamW.",
                        )
                    )
                continue
            shown.append(
                self._figure(
                    file,
                    lambda brush, o=outcome: studies.draw(o, brush),  # type: ignore[misc]
                    studies.describe(outcome),
                    studies.caption(outcome),
                )
            )
        return "\n\n".join(shown)

    def _scaling(self) -> str:
        found = scaling.of_full_length(self.outcomes(EXPERIMENTS["language"]))
        if len(found) < 2:
            return ""
        return self._figure(
            "scaling",
            lambda brush: scaling.draw(found, brush),
            scaling.describe(found),
            scaling.CAPTION,
        )

    def _real(self, name: str) -> str:
        if name == "memory":
            done = self.done(name, REAL)
            return long_runs.memory_table(done) if len(done) else ""
        shown = [studies.table(outcome) for outcome in self.outcomes(EXPERIMENTS[name], REAL)]
        return "\n\n".join(shown)

    @cached_property
    def _stability(self) -> str:
        done = self.done("mechanism")
        if not any(run.config["what"] == "stability" for run in done):
            return ""
        return self._figure(
            "stability",
            lambda brush: mechanism.draw_stability(done, brush),
            "Sharpness divided by the stability limit during training, at two learning rates. "
            "After rising, all curves stay within a few hundredths to tenths of 1.",
            "Sharpness of the preconditioned Hessian, divided by the limit derived for each "
            "optimizer; full batch, squared error, mean and range of the seeds.",
        )

    def _mechanism(self, what: str) -> str:
        done = self.done("mechanism")
        if not len(done):
            return ""
        if what == "damping":
            return "\n\n".join(
                [
                    mechanism.damping_table(done),
                    self._figure(
                        "damping",
                        lambda brush: mechanism.draw_damping(done, brush),
                        "Paths in Rosenbrock's valley: without beta the path swings from wall to "
                        "wall, with beta = 0.9 it follows the valley.",
                        "The DIN equation with alpha = 0.1 until t = 30.",
                    ),
                ]
            )
        if what == "ode":
            return "\n\n".join(
                [
                    mechanism.ode_table(done),
                    self._figure(
                        "ode",
                        lambda brush: mechanism.draw_ode(done, brush),
                        "Above: the iterates at step size 0.1 lie along the paths of the ODE. "
                        "Below: the distance falls in proportion to the step size.",
                        "Iterates of the core beside the ODE, sigma = 1 - gamma, eps = 0.3, T = 4.",
                    ),
                ]
            )
        tables = {
            "stability": mechanism.stability_table,
            "curvature": mechanism.curvature_table,
            "minimise": mechanism.minimise_table,
            "lengths": mechanism.lengths_table,
        }
        return tables[what](done)

    def _long(self, what: str) -> str:
        if what == "published":
            return long_runs.published_table()
        names = {"heat": "second-moment", "memory": "memory", "keras": "images", "once": "images"}
        done = self.done(names.get(what, "long-runs"))
        if not len(done):
            return ""
        if what == "lengths":
            if not long_runs.groups(done, self._scale):
                return ""
            return "\n\n".join(
                [
                    long_runs.lengths_table(done, self._scale),
                    self._figure(
                        "long-runs-lengths",
                        lambda brush: long_runs.draw_lengths(done, self._scale, brush),
                        "Training loss and test error against T from 0.3 to 30 for AdamW, "
                        "(0.1, 0.9), (1, 1) and (2, 2); the table above has the numbers.",
                        "MLP, learning rate 1e-3 for all, cosine, decay 0.01, T from 0.3 to 30.",
                    ),
                ]
            )
        if what == "heat":
            return "\n\n".join(
                [
                    long_runs.heat_table(done, self._scale),
                    self._figure(
                        "second-moment",
                        lambda brush: long_runs.draw_heat(done, self._scale, brush),
                        "Heat maps of the test error over eps and the decay rate of the second "
                        "moment, for AdamW, (0.1, 0.9) and (2, 2).",
                        "MLP, 1,500 steps, learning rate 1e-3 for all, T = 0.75, two seeds.",
                    ),
                ]
            )
        if what == "decay":
            return long_runs.decay_table(done, self._scale)
        tables = {
            "memory": long_runs.memory_table,
            "keras": long_runs.keras_table,
            "once": long_runs.once_table,
        }
        return tables[what](done)

    def _plan(self) -> str:
        rows, total, estimated = [], 0.0, 0.0
        for name, experiment in EXPERIMENTS.items():
            done = self.done(name)
            seconds = sum(run.seconds for run in done)
            total += seconds
            missing = len(experiment.plan(self._scale, done))
            state = "complete" if not missing else f"{missing} or more runs missing"
            where = ", ".join(sorted({run.machine for run in done}))
            runs, alone = costs.estimate(experiment, self._scale)
            estimated += alone
            planned = [f"{runs:,}", "" if math.isnan(alone) else f"{alone / 120:.1f}"]
            rows.append(
                [experiment.title, *planned, f"{len(done):,}", f"{seconds:,.0f}", state, where]
            )
        whole = "" if math.isnan(estimated) else f"{estimated / 120:.0f}"
        rows.append(["together", "", whole, "", f"{total:,.0f}", "", ""])
        head = [
            "experiment",
            "runs, about",
            "minutes of two cores",
            "runs made",
            "their seconds, by the clock",
        ]
        return studies.markdown([*head, "state", "made on"], rows)

    def _rates(self) -> str:
        names = [pair.name for pair in (FAST, PLAIN, ACCURATE)]
        rows = []
        for experiment in EXPERIMENTS.values():
            for scale in (self._scale, REAL):
                for outcome in self.outcomes(experiment, scale):
                    theirs = outcome.reports[0].config["lr"]
                    found = [outcome.of(name) for name in names]
                    ratios = [f"{each.config['lr'] / theirs:.2g}" if each else "" for each in found]
                    name = f"{experiment.title}: {outcome.study.name}"
                    rows.append([name, f"{theirs:g}", *ratios])
        if not rows:
            return ""
        return studies.markdown(["study", "AdamW's best rate", *(f"{n} / it" for n in names)], rows)

    def _verdicts(self, reference: str) -> str:
        names = [pair.name for pair in (FAST, PLAIN, ACCURATE) if pair.name != reference]
        rows = []
        for experiment in EXPERIMENTS.values():
            for scale in (self._scale, REAL):
                for outcome in self.outcomes(experiment, scale):
                    row = self._verdicts_of(outcome, reference, names)
                    if any(row):
                        name = f"{experiment.title}: {outcome.study.name}"
                        what = studies.UNITS[outcome.study.objective]
                        rows.append([name, *row, what, str(len(outcome.study.report))])
        if not rows:
            return ""
        return studies.markdown(["study", *names, "of what", "seeds"], rows)

    def _verdicts_of(self, outcome: studies.Outcome, reference: str, names: list[str]) -> list[str]:
        other, row = outcome.of(reference), []
        for name in names:
            found = outcome.of(name)
            difference = outcome.difference(found, other) if found and other else None
            text = f"**{difference.verdict}** {studies.interval(difference)}" if difference else ""
            row.append(text)
        return row


def _describe_dots(outcome: studies.Outcome) -> str:
    parts = []
    for report in outcome.reports[1:]:
        difference = outcome.difference(report)
        if difference is not None:
            parts.append(f"{report.contender.name} {studies.interval(difference)}")
    return f"{outcome.study.name}: differences from AdamW with 95 % intervals: " + "; ".join(parts)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
