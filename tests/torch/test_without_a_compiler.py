"""fused=True where its kernel cannot be built: one warning, and training goes on."""

import shutil
import subprocess
import sys

import pytest

FALSE = shutil.which("false")
TRAIN = """
import warnings
import torch
from innaprop.torch import INNAprop

p, q = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
fused, foreach = INNAprop([p], fused=True), INNAprop([q], foreach=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        p.grad = q.grad = torch.ones(4)
        fused.step()
        foreach.step()
assert torch.equal(p, q)
print(*(str(w.message) for w in caught), sep="\\n")
"""


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("no-such-compiler", "there is no C compiler (set CC to name one)"),
        (" ", "there is no C compiler (set CC to name one)"),
        ('"cc', "there is no C compiler (set CC to name one)"),
        (FALSE, f"kernel.c could not be built by {FALSE} (exit status 1)"),
        (f"{sys.executable} -c 'raise SystemExit(\"broken\")'", "broken"),
    ],
    ids=["absent", "blank", "half quoted", "failing", "with a message"],
)
def test_falls_back_with_one_message(compiler, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("PATH", str(tmp_path))  # Where no other is found.
    monkeypatch.setenv("INNAPROP_CACHE", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", TRAIN], check=True, capture_output=True, text=True)
    (message,) = done.stdout.splitlines()
    assert message.startswith("INNAprop uses foreach=True instead of fused=True: ")
    assert reason in message


def test_a_cache_that_cannot_be_written_costs_no_kernel(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INNAPROP_CACHE", str(tmp_path / "file"))
    done = subprocess.run([sys.executable, "-c", TRAIN], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_the_next_process_finds_the_kernel_built(tmp_path, monkeypatch):
    monkeypatch.setenv("INNAPROP_CACHE", str(tmp_path))
    built = set()
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", TRAIN], check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == ""
        built |= {(path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert len(built) == 1
