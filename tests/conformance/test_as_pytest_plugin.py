"""The suite runs under pytest if its plugin is loaded, and only then."""

import subprocess
import sys

import pytest

PLUGIN = ("-p", "innaprop_conformance.pytest_plugin")


def run(tmp_path, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--pyargs", "innaprop_conformance", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


def test_a_backend_and_a_family(tmp_path):
    done = run(tmp_path, *PLUGIN, "--backend", "numpy", "--family", "corners", "-vv")
    assert done.returncode == 0, done.stdout
    assert "[numpy-float64-corner,no-eps] PASSED" in done.stdout
    assert "[torch" not in done.stdout


@pytest.mark.parametrize("option", ["--backend", "--family"])
def test_an_unknown_name(tmp_path, option):
    done = run(tmp_path, *PLUGIN, option, "gone")
    assert done.returncode != 0
    assert "gone" in done.stdout


def test_without_the_options_it_is_of_every_backend(tmp_path):
    done = run(tmp_path, "--collect-only")
    assert done.returncode == 0, done.stdout
    assert "[numpy-float64-corner,no-eps]" in done.stdout
    assert "[torch-float64-corner,no-eps]" in done.stdout


def test_other_runs_do_not_load_it(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n\n\ndef test_it():\n"
        "    assert not [name for name in sys.modules if name.startswith('innaprop')]\n"
    )
    command = [sys.executable, "-m", "pytest", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "innaprop" not in done.stdout


def test_other_runs_may_have_options_of_those_names(tmp_path):
    (tmp_path / "other.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--backend')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_it(request):\n    assert request.config.getoption('backend') == 'mine'\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "other", "--backend", "mine", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
