"""The report: one HTML file that needs nothing else."""

import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import jinja2
from markupsafe import Markup

from innaprop_conformance import tables
from innaprop_conformance.backends import Backend
from innaprop_conformance.cases import CASES, STEPS
from innaprop_conformance.judge import DISTANCE_ALLOWED, FLOORS_ALLOWED
from innaprop_conformance.plots import error_plot, loss_plot
from innaprop_conformance.runner import Conformance, Learning
from innaprop_conformance.training.task import Task, Training


def write_report(
    path: Path,
    backends: Mapping[str, type[Backend]],
    conformance: Sequence[Conformance],
    training: Sequence[Learning],
    truth: Training | None,
) -> None:
    """Write the report; the file appears whole or not at all.

    Args:
        path: Where to write it.
        backends: Those asked for, by name.
        conformance: What the cases said.
        training: What the training said; empty where there was none.
        truth: NumPy's training; None where there was none.

    Raises:
        OSError: The file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("innaprop_conformance"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    versions = {"innaprop": version("innaprop"), "python": platform.python_version()}
    for backend in backends.values():
        versions |= backend.versions()
    conformance_rows = tables.conformance_rows(backends, conformance)
    training_rows = tables.training_rows(backends, training, truth) if truth else []
    text = environment.get_template("report.html.j2").render(
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        versions=versions,
        good=tables.all_good([*conformance_rows, *training_rows]),
        conformance_columns=tables.CONFORMANCE_COLUMNS,
        conformance_rows=conformance_rows,
        conformance_legend=tables.CONFORMANCE_LEGEND,
        training_legend=tables.TRAINING_LEGEND,
        training_columns=tables.TRAINING_COLUMNS,
        training_rows=training_rows,
        error_plot=_inline(error_plot(conformance)),
        loss_plot=_inline(loss_plot(training, truth)) if truth else None,
        cases=len(CASES),
        steps=STEPS,
        task=Task(),
        floors_allowed=FLOORS_ALLOWED,
        distance_allowed=DISTANCE_ALLOWED,
        disagreement_allowed=tables.LOSS_DISAGREEMENT_ALLOWED,
    )
    _write_whole(path, text)


def _inline(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)


def _write_whole(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.resolve().parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes files that only their owner may read; a report is for others too.
        os.chmod(name, 0o644)
        os.replace(name, path.resolve())
    except BaseException:
        os.unlink(name)
        raise
