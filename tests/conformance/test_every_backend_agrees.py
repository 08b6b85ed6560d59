"""The demo, run as a user would, with everything that is installed."""

import re
import subprocess
import sys

import pytest

from innaprop_conformance.backends import load_backend
from innaprop_conformance.cases import select

FAMILIES = ("groups", "missing gradients", "precision", "schedules")
CASES = select(FAMILIES)

BACKENDS = [
    "keras-jax",
    "keras-tensorflow",
    "keras-torch",
    "numpy",
    "optax",
    "tensorflow",
    "torch",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    chosen = [part for name in BACKENDS for part in ("--backend", name)]
    chosen += [part for name in FAMILIES for part in ("--family", name)]
    done = subprocess.run(
        [sys.executable, "-m", "innaprop_conformance", "demo", *chosen],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done, folder


def test_all_agree_over_their_cases_and_the_training(demo):
    done, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "7 of 7 backends agree with the ground truth"
    for name in BACKENDS:
        lines = [line for line in done.stdout.splitlines() if line.split()[:1] == [name]]
        rows = [line for line in lines if "━" not in line]  # Without progress bars.
        agreed = [row for row in rows if "agrees" in row]
        backend = load_backend(name)
        for dtype in backend.dtypes:
            asked = len(backend.asked(CASES, dtype))
            (row,) = (row for row in agreed if f" {dtype} " in row)
            assert f" {asked}/{asked} " in row
        # One row in the matrix and one in the training.
        assert len(agreed) == len(backend.dtypes) + 1
        assert len(rows) == len(agreed) + 1


def test_the_network_learns_the_digits(demo):
    done, _ = demo
    accuracies = re.findall(r"(\d+\.\d)%", done.stdout)
    assert len(accuracies) == 7 + 5  # Of INNAprop, and of AdamW where available.
    assert all(float(accuracy) > 90 for accuracy in accuracies)


def test_the_report_is_one_file_with_all_tables_and_both_plots(demo):
    _, folder = demo
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    html = (folder / "report.html").read_text()
    assert html.count("<table") == 3
    assert html.count("<svg") == 2
    assert "7 of 7 backends agree with the ground truth" in html
    # Self-contained: no links to styles, scripts or images.
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\(", html.replace("url(#", "(#"))
    for name in BACKENDS:
        assert html.count(f"<td>{name}</td>") == 2 + len(load_backend(name).dtypes)
