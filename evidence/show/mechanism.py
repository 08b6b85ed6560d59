"""Tables and figures of the mechanism."""

from collections import defaultdict
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evidence.contenders import ACCURATE, FAST, PLAIN
from evidence.experiments.landscapes import GAMMAS, LANDSCAPES, MINIMISERS
from evidence.show.studies import markdown, number
from evidence.show.style import WIDTH, Brush, legend_above
from evidence.store import Config, Results, Run

PAIRS = [pair.name for pair in (FAST, PLAIN, ACCURATE)]


def name_of(config: Config) -> str:
    """Return what a run's optimizer is called."""
    if config.get("optimizer") == "adamw":
        return "AdamW" if config["beta1"] else "AdamW, beta1 = 0"
    return f"({config['alpha']:g}, {config['beta']:g})"


def runs_of(done: Results, what: str, **wanted: Any) -> dict[str, list[Run]]:
    """Return the runs of a measurement by optimizer."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in done:
        config = run.config
        if config["what"] == what and all(config.get(k) == v for k, v in wanted.items()):
            found[name_of(config)].append(run)
    return dict(found)


def draw_stability(done: Results, brush: Brush) -> Figure:
    """Draw sharpness over limit on the way, a panel a rate."""
    figure = Figure(figsize=(WIDTH, 5.4))
    for axes, rate in zip(figure.subplots(2, 1), (3e-4, 1e-3), strict=True):
        for name, runs in runs_of(done, "stability", lr=rate, squared=True).items():
            ratios = np.array([run.result["over the limit"] for run in runs])
            marks = runs[0].result["marks"]
            axes.plot(marks, ratios.mean(0), label=name, **brush.line(name))
            color = brush.of(name)["color"]
            axes.fill_between(marks, ratios.min(0), ratios.max(0), color=color, alpha=0.15)
        axes.axhline(1, color=brush.ink, linewidth=1)
        axes.set_ylim(0, 1.6)
        axes.set_ylabel("sharpness / limit")
        axes.set_title(f"learning rate {rate:g}")
    axes.set_xlabel("step, full batch")
    legend_above(figure, axes, 3)
    return figure


def stability_table(done: Results) -> str:
    """Return sharpness over limit in the second half of the runs."""
    rows = []
    for squared, loss in ((True, "squared error"), (False, "cross-entropy")):
        for rate in (3e-4, 1e-3):
            for name, runs in runs_of(done, "stability", lr=rate, squared=squared).items():
                late = [
                    r
                    for run in runs
                    for r in run.result["over the limit"][len(run.result["marks"]) // 2 :]
                ]
                top = max(max(run.result["over the limit"]) for run in runs)
                ends = fmean(run.result["training"][-1] for run in runs)
                rows.append(
                    [
                        loss,
                        f"{rate:g}",
                        name,
                        f"{np.mean(late):.2f}",
                        f"{min(late):.2f} to {max(late):.2f}",
                        f"{top:.2f}",
                        number(ends, 2),
                        str(len(runs)),
                    ]
                )
    head = ["loss", "rate", "optimizer", "mean", "range", "largest of all", "loss at the end"]
    return markdown([*head, "seeds"], rows)


def curvature_table(done: Results) -> str:
    """Return the cosines between the change of u and the curvature along the step."""
    rows = []
    for batch in sorted({run.config["batch"] for run in done if run.config["what"] == "curvature"}):
        for name, runs in runs_of(done, "curvature", batch=batch).items():
            whole = runs[0].config["train"] == batch
            row = [name, "all images" if whole else f"{batch}"]
            for kind in ("same batch", "as stepped"):
                values = [value for run in runs for value in run.result[kind]]
                low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
                row.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            rows.append(row)
    head = [
        "(alpha, beta)",
        "batch",
        "both gradients on one batch",
        "on the batches that were seen",
    ]
    return markdown(head, rows)


def draw_damping(done: Results, brush: Brush) -> Figure:
    """Draw paths of the DIN equation on Rosenbrock, a panel a beta."""
    runs = sorted(
        (run for run in done if run.config["what"] == "damping"), key=lambda r: r.config["beta"]
    )
    shown = [run for run in runs if run.config["beta"] in (0.0, 0.9)]
    figure = Figure(figsize=(WIDTH, 5.4))
    x, y = np.meshgrid(np.linspace(-2, 2, 200), np.linspace(-0.7, 2.8, 200))
    height = np.log10((1 - x) ** 2 + 100 * (y - x**2) ** 2 + 1e-3)
    for axes, run in zip(figure.subplots(2, 1), shown, strict=True):
        axes.grid(visible=False)
        axes.contour(x, y, height, 8, colors=brush.faint, linewidths=0.6, linestyles="solid")
        look = brush.of("(0.1, 0.9)" if run.config["beta"] else "(2, 2)")
        axes.plot(*run.result["path"], color=look["color"], linewidth=1.0)
        axes.plot(1, 1, "*", color=brush.ink, markersize=9)
        axes.set_title(f"beta = {run.config['beta']:g}: {run.result['reversals']} reversals")
        axes.set_xlim(-2, 2)
        axes.set_ylim(-0.7, 2.8)
    return figure


def damping_table(done: Results) -> str:
    """Return the reversals across the valley for every beta."""
    runs = sorted(
        (run for run in done if run.config["what"] == "damping"), key=lambda r: r.config["beta"]
    )
    rows = [
        [f"{r.config['beta']:g}", str(r.result["reversals"]), number(r.result["end"], 2)]
        for r in runs
    ]
    return markdown(["beta", "reversals across the valley", "value at t = 30"], rows)


def draw_ode(done: Results, brush: Brush) -> Figure:
    """Draw the distance from the ODE against the step size, beside first order."""
    figure = Figure(figsize=(WIDTH, 5.6))
    above, below = figure.subplots(2, 1)
    for name, runs in runs_of(done, "ode").items():
        result = runs[0].result
        below.loglog(GAMMAS, result["errors"], label=name, **brush.of(name))
        line = brush.line(name)
        above.plot(*result["exact"], label=name, **line)
        above.plot(*result["paths"][0], ".", color=line["color"], markersize=3)
    below.loglog(GAMMAS, GAMMAS, color=brush.faint, label="first order")
    below.set_xlabel("step size")
    below.set_ylabel("largest distance")
    above.set_title("paths of the ODE (lines), iterates at step size 0.1 (dots)")
    below.set_title("distance from the ODE")
    legend_above(figure, below)
    return figure


def ode_table(done: Results) -> str:
    """Return the distances from the ODE, and their order."""
    rows = []
    for name, runs in runs_of(done, "ode").items():
        errors = runs[0].result["errors"]
        order = np.log2(errors[-2] / errors[-1])
        rows.append([name, *(number(error, 2) for error in errors), f"{order:.2f}"])
    return markdown(["(alpha, beta)", *(f"gamma {gamma:g}" for gamma in GAMMAS), "order"], rows)


def minimise_table(done: Results) -> str:
    """Return what plain minimisers reach."""
    rows = []
    for name in MINIMISERS:
        row = [name]
        for landscape in LANDSCAPES:
            for run in done:
                config = run.config
                if config.get("landscape") == landscape and config["optimizer"] == name:
                    row.append(f"{number(run.result['value'], 2)} (rate {run.result['rate']:.2g})")
        rows.append(row)
    return markdown(["optimizer", *LANDSCAPES], rows)


def lengths_table(done: Results) -> str:
    """Return the first and the last step under a constant u, and the error of the formula."""
    rows = [
        [
            name,
            f"{runs[0].result['first']:.3f}",
            f"{runs[0].result['last']:.3f}",
            f"{runs[0].result['off by']:.0e}",
        ]
        for name, runs in runs_of(done, "step lengths").items()
    ]
    head = ["(alpha, beta)", "first step / rate", "step 20,000 / rate", "off the formula by"]
    return markdown(head, rows)
