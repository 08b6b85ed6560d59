"""Cases and trajectories as files, for implementations that cannot be called from Python.

``export`` writes a folder: ``cases.json``, a README for implementers, and for every case a
folder with ``inputs.safetensors`` and ``expected.safetensors``. The implementation adds its output
as ``DTYPE.safetensors`` to each folder. ``check`` judges outputs like any backend's trajectory.
"""

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from innaprop_conformance import __version__
from innaprop_conformance.backends.protocol import PLAIN
from innaprop_conformance.cases import Case, flat
from innaprop_conformance.files import write_whole
from innaprop_conformance.judge import Verdict, judge
from innaprop_conformance.results import Conformance, Results, Subject, by_family
from innaprop_conformance.steps import Update, segments, steps_of
from innaprop_conformance.truth import Truth

FORMAT = "innaprop-conformance-cases"
VERSION = 3
HYPERPARAMETERS = ("gamma", "alpha", "beta", "sigma", "eps", "weight_decay", "decay_momentum")
"""The last axis of ``hyperparameters``."""
_EXPORTED = (PLAIN | {"count"}) - {"large parameters"}
"""Features of cases that can be exported: the inputs of their updates describe them completely,
in files of a few MB."""
_Tensors = dict[str, NDArray[Any]]


def exportable(cases: Mapping[str, Case]) -> dict[str, Case]:
    """Return the cases that can be exported: those without events, ways and mixed dtypes."""
    return {name: case for name, case in cases.items() if case.features <= _EXPORTED}


def export(
    folder: Path,
    cases: Mapping[str, Case],
    truths: Mapping[str, Truth],
    done: Callable[[], None] = lambda: None,
) -> None:
    """Write cases with their inputs and expected outputs.

    Args:
        folder: Folder to write; must be empty or not exist.
        cases: By name; all ``exportable``.
        truths: Ground truths by case name.
        done: Called after every case.

    Raises:
        FileExistsError: The folder is not empty. Nothing is written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"the folder must be new or empty, got {folder}, which is not")
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        place = folder / name
        place.mkdir()
        save_file(inputs(case), place / "inputs.safetensors")
        theta = _repeated(case, truths[name].theta)
        save_file({"theta": theta}, place / "expected.safetensors")
        done()
    readme = files("innaprop_conformance").joinpath("templates", "exchange.md").read_text("utf-8")
    write_whole(folder / "README.md", readme.replace("SUITE_VERSION", __version__))
    schema = files("innaprop_conformance").joinpath("schema", "cases.json").read_text("utf-8")
    write_whole(folder / "schema.json", schema)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "suite": __version__,
        "cases": [json.loads(case.to_json()) for case in cases.values()],
    }
    # Written last: a folder without it is incomplete, and is not read as an export.
    write_whole(folder / "cases.json", json.dumps(document, indent=1))


def inputs(case: Case) -> _Tensors:
    """Return the inputs of a case; the export's README.md describes them."""
    parameters = case.parameters()
    sizes = np.array([p.size for p in parameters], np.int64)
    hyperparameters = np.zeros((case.steps, len(parameters), len(HYPERPARAMETERS)))
    counts = np.zeros((case.steps, len(parameters)), np.int64)
    segment_of = _segment_of_each_parameter(case)
    for updates, step in enumerate(steps_of(case)):
        update_of = {update.segment: update for update in step if isinstance(update, Update)}
        for i, segment in enumerate(segment_of):
            if update := update_of.get(segment):
                counts[updates, i] = update.k
                hyperparameters[updates, i] = [update.values[name] for name in HYPERPARAMETERS]
    wide = np.float64 if case.values == "float64" else np.float32
    gradients = np.zeros((case.steps, int(sizes.sum())), wide)
    for row, given in zip(gradients, case.stream(), strict=True):
        present = [
            np.zeros(p.shape) if g is None else g for g, p in zip(given, parameters, strict=True)
        ]
        row[:] = flat(present)
    return {
        "start": flat(parameters),
        "sizes": sizes,
        "gradients": gradients,
        "k": counts,
        "hyperparameters": hyperparameters,
    }


def read_cases(folder: Path) -> dict[str, Case]:
    """Return the cases of an export, by name.

    Raises:
        ValueError: The folder holds no export, a damaged one, or one of another version.
    """
    try:
        document = json.loads((folder / "cases.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"DIR must be one that export has written, got {folder}: {error}"
        ) from error
    if document.get("format") == FORMAT and document.get("version") != VERSION:
        raise ValueError(
            f"cases.json must be of version {VERSION}, got version {document.get('version')!r}"
        )
    schema = json.loads(
        files("innaprop_conformance").joinpath("schema", "cases.json").read_text("utf-8")
    )
    try:
        jsonschema.validate(document, schema)
        cases = [Case.from_json(json.dumps(case)) for case in document["cases"]]
    except (jsonschema.ValidationError, TypeError, ValueError, KeyError) as error:
        message = getattr(error, "message", error)
        raise ValueError(f"cases.json is not what export writes: {message}") from error
    return {case.name: case for case in cases}


def outputs(folder: Path, cases: Mapping[str, Case]) -> list[tuple[str, str]]:
    """Return case name and dtype of every output that an implementation has added to an export."""
    return [
        (name, dtype)
        for name, case in cases.items()
        for dtype in case.dtypes
        if _output(folder, name, dtype).exists()
    ]


def check(folder: Path, case: Case, dtype: str, truth: Truth) -> Verdict:
    """Judge the output of one case in one dtype.

    Args:
        folder: The export.
        case: One of its cases.
        dtype: One of the case's dtypes.
        truth: The case's ground truth.

    Raises:
        ValueError: The file is damaged, or its theta is missing or has a wrong shape or dtype.
    """
    path = _output(folder, case.name, dtype)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} of {case.name} is not a safetensors file: {error}"
        ) from error
    if tensors.keys() != {"theta"}:
        names = ", ".join(tensors) or "nothing"
        raise ValueError(f"{path.name} of {case.name} must hold theta alone, got {names}")
    theta = tensors["theta"]
    if theta.dtype not in (np.float32, np.float64, np.float16):
        raise ValueError(
            f"theta in {path.name} of {case.name} must be F64, F32 or F16, got {theta.dtype}"
        )
    sizes = [int(np.prod(shape)) for shape in case.shapes]
    if theta.shape != (wanted := (case.steps, sum(sizes))):
        raise ValueError(
            f"theta in {path.name} of {case.name} must have shape {wanted} (steps, elements), "
            f"got {theta.shape}"
        )
    rows = [flat(case.picked(np.split(row, np.cumsum(sizes)[:-1]))) for row in theta]
    return judge(case.name, dtype, np.array(rows, np.float64), truth)


def check_all(
    folder: Path,
    name: str,
    cases: Mapping[str, Case],
    truths: Mapping[str, Truth],
    require: bool = False,
) -> Results:
    """Judge all outputs in an export.

    Args:
        folder: The export.
        name: Name of the implementation.
        cases: The export's cases, by name.
        truths: The ground truth of every case that has an output.
        require: Whether a case without output is a failure, in each dtype in which some case has
            one. Default False.

    Raises:
        ValueError: There is no output.
    """
    found = outputs(folder, cases)
    if not found:
        raise ValueError(
            f"DIR must hold an output, such as {_output(folder, next(iter(cases)), 'float32')}"
        )
    conformance = []
    for dtype in dict.fromkeys(dtype for _, dtype in found):
        names = [case for case, of in found if of == dtype]
        wanted = [case.name for case in cases.values() if dtype in case.dtypes]
        verdicts, errors = [], {}
        for case in names:
            try:
                verdicts.append(check(folder, cases[case], dtype, truths[case]))
            except ValueError as error:
                errors[case] = str(error)
        lacking = [case for case in wanted if case not in names]
        reached = {cases[case].family for case in names}
        conformance.append(
            Conformance(
                name,
                dtype,
                wanted if require else names,
                verdicts,
                errors,
                f"without output: {counted(len(lacking))}" if require and lacking else None,
                {cases[c].family: "no output" for c in wanted if cases[c].family not in reached},
            )
        )
    return Results(
        [Subject(name, {}, [], trains=False, mode="files")],
        conformance,
        families=by_family(cases),
        seed=next(iter(cases.values())).seed,
    )


def counted(cases: int) -> str:
    """Return a number of cases with the noun, in singular or plural."""
    return "1 case" if cases == 1 else f"{cases} cases"


def _output(folder: Path, case: str, dtype: str) -> Path:
    return folder / case / f"{dtype}.safetensors"


def _repeated(case: Case, judged: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of all elements, from those of the judged elements.

    Large parameters repeat their values, and the judged elements are the minimum and the maximum
    over all copies. In the ground truth these are equal.
    """
    parts, at = [], 0
    for shape in case.shapes:
        size = int(np.prod(shape))
        repeats = case.period is not None and size > case.period
        period = case.period if case.period is not None and repeats else size
        parts.append(judged[:, at : at + period][:, np.arange(size) % max(period, 1)])
        at += 2 * period if repeats else period
    # safetensors writes an array's memory as it is, and reads it in C order.
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _segment_of_each_parameter(case: Case) -> list[int]:
    return [i for i, segment in enumerate(segments(case)) for _ in segment.places]
