"""The report: one self-contained HTML file."""

from pathlib import Path

import jinja2
from markupsafe import Markup

from innaprop_conformance import tables
from innaprop_conformance.files import write_whole
from innaprop_conformance.plots import error_plot, loss_plot
from innaprop_conformance.results import Results
from innaprop_conformance.training.task import Task


def write_report(path: Path, results: Results) -> None:
    """Write the report; the write is atomic.

    Args:
        path: File to write.
        results: Results of a run.

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
    conformance_rows = tables.conformance_rows(results)
    training_rows = tables.training_rows(results)
    truth = results.reference
    good, verdict = tables.conclusion(results)
    text = environment.get_template("report.html.j2").render(
        made=results.made,
        machine=results.machine,
        versions=results.versions,
        suite=results.suite,
        good=good,
        verdict=verdict,
        unmatched=results.unmatched,
        conformance_columns=tables.CONFORMANCE_COLUMNS,
        conformance_rows=conformance_rows,
        conformance_legend=tables.CONFORMANCE_LEGEND,
        training_legend=tables.TRAINING_LEGEND,
        training_columns=tables.TRAINING_COLUMNS,
        training_rows=training_rows,
        error_plot=_inline(error_plot(results.conformance)),
        loss_plot=_inline(loss_plot(results.training, truth)) if truth else None,
        families=results.families,
        seed=results.seed,
        matrix=tables.matrix(results),
        matrix_legend=tables.MATRIX_LEGEND,
        not_applicable=tables.not_applicable(results),
        modes={subject.name: subject.mode for subject in results.backends},
        task=Task(),
        disagreement_allowed=tables.LOSS_DISAGREEMENT_ALLOWED,
    )
    write_whole(path, text)


def _inline(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)
