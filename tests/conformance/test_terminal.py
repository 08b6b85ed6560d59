"""The output fits into terminals of any width: nothing is truncated."""

import io

import pytest
from rich.console import Console

from innaprop_conformance.cases import FAMILIES
from innaprop_conformance.cli.show import show_conformance
from innaprop_conformance.judge import Verdict
from innaprop_conformance.results import Conformance, Results, Subject


def verdict(case, tolerance):
    passed = tolerance <= 1
    return Verdict(
        case, "float32", passed, 1, 1e-3, 1, tolerance, 1, 0, 1, None if passed else 1, ()
    )


def results(*families):
    chosen = {family: list(FAMILIES[family]) for family in families}
    cases = [case for names in chosen.values() for case in names]
    found = [
        Conformance(name, dtype, cases, [verdict(case, share) for case in cases])
        for name, dtype, share in (
            ("keras-tensorflow-eager", "bfloat16+residual", 0.512),
            ("torch", "float32", 2.1e30),
        )
    ]
    return Results([Subject(c.backend, {}, [], False) for c in found], found, families=chosen)


def shown(width, *families):
    out = io.StringIO()
    show_conformance(Console(file=out, width=width), results(*families))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def rows(lines, first):
    return [line.split() for line in lines if line.split()[:1] == [first]]


def test_where_there_is_room_a_row_is_a_backend():
    lines = shown(300, *FAMILIES)
    assert rows(lines, "torch")[0] == ["torch", *["2.1e+30"] * len(FAMILIES)]
    assert rows(lines, "torch")[1][-4:] == ["1", "1.0e-03", "1", "2.1e+30"]


@pytest.mark.parametrize("width", [80, 88, 100, 150])
def test_where_there_is_none_a_row_is_a_family(width):
    lines = shown(width, *FAMILIES)
    assert ["precision", "7", "2", "1", "2.1e+30", "torch"] in rows(lines, "precision")
    assert len(rows(lines, "torch")) == 1
    tables = [line for line in lines if not line.startswith(("torch:", "keras-tensorflow-eager:"))]
    assert max(map(len, tables)) <= width
    assert not any("…" in line for line in lines)
    assert any("bfloat16+residual" in line for line in lines)


@pytest.mark.parametrize("width", range(80, 130, 7))
def test_a_few_families_are_shown_whole_or_as_rows(width):
    lines = shown(width, "presets", "precision", "spared momentum", "large parameters")
    assert not any("…" in line for line in lines)
    assert any("2.1e+30" in line for line in lines)
