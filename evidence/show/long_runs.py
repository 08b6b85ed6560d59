"""Tables and figures of the long runs, sigma and eps, and memory: what is not tuned."""

from collections import defaultdict
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from evidence.contenders import ACCURATE, ADAMW, FAST, FOUR
from evidence.experiment import Scale
from evidence.experiments import long_runs, second_moment
from evidence.experiments.images import PUBLISHED
from evidence.show.mechanism import name_of
from evidence.show.studies import markdown, number
from evidence.show.style import WIDTH, Brush, legend_above
from evidence.statistics import mean_and_spread
from evidence.store import Result, Results, Run

Group = tuple[str, int, float, bool]
"""Optimizer, steps, decay, and whether decay reaches the momentum."""


def groups(done: Results, scale: Scale) -> dict[Group, list[Run]]:
    """Return the runs at one rate for all that are done, by all but their seed."""
    found: dict[Group, list[Run]] = defaultdict(list)
    wanted = long_runs.equal_rates(scale)
    for run in done:
        config = run.config
        if config in wanted and "diverged" not in run.result:
            found[
                name_of(config),
                config["steps"],
                config["weight_decay"],
                config.get("decay_momentum", True),
            ].append(run)
    return dict(found)


def _place(name: str) -> int:
    """Return where a contender stands in tables."""
    return [contender.name for contender in FOUR].index(name)


def lengths_table(done: Results, scale: Scale) -> str:
    """Return training loss and error at every length."""
    rows = []
    for (name, steps, decay, _), runs in sorted(
        groups(done, scale).items(), key=lambda group: (group[0][1], _place(group[0][0]))
    ):
        if decay != 0.01:
            continue
        row = [number(runs[0].result["time"], 2), f"{steps:,}", name]
        for share in (0.1, 0.3, 1.0):
            row.append(number(_at(runs, share, "training")))
        row += [number(_at(runs, 1.0, "loss")), _spread(runs, "error"), str(len(runs))]
        rows.append(row)
    head = ["T", "steps", "optimizer", "training loss at 10 %", "at 30 %", "at the end"]
    return markdown([*head, "validation loss", "test error, %", "seeds"], rows)


def decay_table(done: Results, scale: Scale) -> str:
    """Return what decay does, with and without decay of the momentum."""
    rows = []
    found = groups(done, scale)
    for (name, steps, decay, reaches), runs in sorted(
        found.items(), key=lambda group: (group[0][2], _place(group[0][0]), group[0][3])
    ):
        if steps != scale.pick(20, long_runs.LENGTHS[-2]):
            continue
        if name == ADAMW.name:
            how = ""
        else:
            how = "reaches the momentum" if reaches else "spares the momentum"
        rows.append(
            [
                f"{decay:g}",
                name,
                how,
                number(_at(runs, 1.0, "training")),
                number(_at(runs, 1.0, "loss")),
                _spread(runs, "error"),
                str(len(runs)),
            ]
        )
    head = ["decay", "optimizer", "the decay", "training loss", "validation loss"]
    return markdown([*head, "test error, %", "seeds"], rows)


def _at(runs: list[Run], share: float, curve: str) -> float:
    mark = max(1, round(share * runs[0].config["steps"]))
    place = runs[0].result["marks"].index(mark)
    return fmean(
        (r.result["training"] if curve == "training" else r.result["validation"][curve])[place]
        for r in runs
    )


def _spread(runs: list[Run], score: str) -> str:
    mean, spread = mean_and_spread([run.result["test"][score] for run in runs])
    return f"{number(mean)} ± {number(spread, 2)}"


def draw_lengths(done: Results, scale: Scale, brush: Brush) -> Figure:
    """Draw training loss and test error against T."""
    figure = Figure(figsize=(WIDTH, 5.6))
    above, below = figure.subplots(2, 1, sharex=True)
    lines: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for (name, _, decay, _), runs in groups(done, scale).items():
        if decay == 0.01:
            error = fmean(run.result["test"]["error"] for run in runs)
            lines[name].append((runs[0].result["time"], _at(runs, 1.0, "training"), error))
    for name, points in lines.items():
        times, losses, errors = zip(*sorted(points), strict=True)
        above.loglog(times, losses, label=name, **brush.of(name))
        below.semilogx(times, errors, **brush.of(name))
    above.set_ylabel("training loss at the end")
    below.set_ylabel("test error, %")
    below.set_xlabel("T, the sum of the rates")
    legend_above(figure, above)
    return figure


Heat = dict[str, np.ndarray]


def heat(done: Results, scale: Scale) -> Heat:
    """Return the mean test error by optimizer, over memory (rows) and eps (columns)."""
    wanted = [config for config in second_moment.grid(scale) if config in done]
    maps = {}
    for contender in (ADAMW, FAST, ACCURATE):
        field = second_moment.memory_name(contender.options["optimizer"])
        grid = np.full((len(second_moment.MEMORIES), len(second_moment.EPSILONS)), np.nan)
        for i, memory in enumerate(second_moment.MEMORIES):
            for j, eps in enumerate(second_moment.EPSILONS):
                found = [
                    done[config].get("test", {}).get("error", np.nan)
                    for config in wanted
                    if name_of(config) == contender.name
                    and (config[field], config["eps"]) == (memory, eps)
                ]
                if found:
                    grid[i, j] = np.mean(found)
        maps[contender.name] = grid
    return maps


def draw_heat(done: Results, scale: Scale, brush: Brush) -> Figure:
    """Draw the heat maps, each over the best of all."""
    maps = heat(done, scale)
    best = min(np.nanmin(grid) for grid in maps.values())
    figure = Figure(figsize=(WIDTH, 6.2))
    for axes, (name, grid) in zip(figure.subplots(3, 1, sharex=True), maps.items(), strict=True):
        axes.grid(visible=False)
        axes.imshow(grid, cmap="cividis_r", vmin=best, vmax=best + 6, aspect="auto")
        for (i, j), value in np.ndenumerate(grid):
            dark = value - best > 3
            axes.text(
                j, i, f"{value:.1f}", ha="center", va="center", color="w" if dark else "k", size=9
            )
        axes.set_yticks(range(len(second_moment.MEMORIES)), map(str, second_moment.MEMORIES))
        axes.set_ylabel("beta2" if name == ADAMW.name else "sigma")
        axes.set_title(f"{name}: test error, %")
    axes.set_xticks(range(len(second_moment.EPSILONS)), [f"{e:g}" for e in second_moment.EPSILONS])
    axes.set_xlabel("eps")
    return figure


def heat_table(done: Results, scale: Scale) -> str:
    """Return best and worst of the heat maps, and how many settings are near the best."""
    rows = []
    for name, grid in heat(done, scale).items():
        near = int((grid < np.nanmin(grid) + 0.5).sum())
        usual = grid[second_moment.MEMORIES.index(0.999), second_moment.EPSILONS.index(1e-8)]
        row = [name, f"{np.nanmin(grid):.2f}", f"{usual:.2f}", f"{np.nanmax(grid):.2f}"]
        rows.append([*row, f"{near} of {grid.size}"])
    head = ["optimizer", "best", "at 0.999 and 1e-8", "worst", "within 0.5 of its best"]
    return markdown(head, rows)


def memory_table(done: Results) -> str:
    """Return state and peak of AdamW and INNAprop side by side."""
    rows: dict[tuple[int, int, str], dict[str, Result]] = {}
    for run in done:
        config, result = run.config, run.result
        key = (result["weights"], config["batch"], config["form"])
        rows.setdefault(key, {})[config["optimizer"]] = result
    lines = []
    for (weights, batch, form), pair in sorted(rows.items()):
        if len(pair) == 2:
            theirs, ours = pair[ADAMW.name], pair[FAST.name]
            line = [f"{weights / 1e6:.1f} M", str(batch), form]
            for each in (theirs, ours):
                line += [f"{each['bytes a weight']:.3f}", f"{each['peak MiB']:,.0f}"]
            lines.append([*line, f"{ours['peak MiB'] / theirs['peak MiB']:.3f}"])
    head = ["weights", "batch", "form", "AdamW: state, bytes a weight", "peak, MiB"]
    return markdown([*head, "INNAprop: state, bytes a weight", "peak, MiB", "ratio"], lines)


def published_table() -> str:
    """Return the authors' means."""
    names = list(PUBLISHED["VGG11"])
    rows = [[model, *(f"{means[n]:.2f}" for n in names)] for model, means in PUBLISHED.items()]
    return markdown(["the authors', accuracy in %", *names], rows)


def keras_table(done: Results) -> str:
    """Return the VGG's runs in Keras beside the same in PyTorch."""
    rows = []
    for run in done:
        if run.config.get("framework") != "keras":
            continue
        same = {key: value for key, value in run.config.items() if key != "framework"}
        if same not in done:
            continue
        theirs = done[same]
        apart = [
            abs(a / b - 1) for a, b in zip(run.result["training"], theirs["training"], strict=True)
        ]
        first, last = apart[0], max(apart)
        errors = [f"{result['test']['error']:.2f}" for result in (theirs, run.result)]
        rows.append([name_of(same), str(same["seed"]), *errors, f"{first:.1e}", f"{last:.1e}"])
    head = ["optimizer", "seed", "PyTorch: test error, %", "Keras", "loss apart at 2 %", "at most"]
    return markdown(head, rows)


def once_table(done: Results) -> str:
    """Return the networks that were run on two seeds only."""
    found: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in done:
        if run.config["model"] in ("densenet", "vit") and "diverged" not in run.result:
            found[run.config["model"], name_of(run.config)].append(run)
    names = {"densenet": "DenseNet", "vit": "ViT"}
    rows = [
        [names[model], name, f"{runs[0].config['lr']:g}", _spread(runs, "error"), str(len(runs))]
        for (model, name), runs in found.items()
    ]
    return markdown(["network", "optimizer", "rate", "test error, %", "seeds"], rows)
