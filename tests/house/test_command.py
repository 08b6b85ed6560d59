"""The command ``innaprop`` shows what is kept, and removes that and nothing else."""

import subprocess
import sys

import pytest

import innaprop
from innaprop.command import main

KERNEL = f"kernel-{'a' * 16}-{'0' * 64}.so"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("INNAPROP_CACHE", str(folder))
    return folder


def fill(folder):
    (folder / KERNEL).write_bytes(b"x" * 2**20)
    (folder / "truths" / "code").mkdir(parents=True)
    (folder / "truths" / "code" / "one.npz").write_bytes(b"x" * 2**20)


def test_what_is_kept_is_shown(cache, capsys):
    fill(cache)
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"2 entries, 2.0 MiB, in {cache}\n"
    assert (cache / KERNEL).exists()


def test_all_of_it_is_removed_and_the_folder_too(cache, capsys):
    fill(cache)
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == f"2 entries, 2.0 MiB, removed from {cache}\n"
    assert not cache.exists()


def test_what_is_not_ours_stays(cache):
    fill(cache)
    (cache / "mine.so").write_text("")
    (cache / "elsewhere").symlink_to(cache.parent)
    assert main(["cache", "--clear"]) == 0
    assert sorted(path.name for path in cache.iterdir()) == ["elsewhere", "mine.so"]


def test_a_link_is_removed_and_not_what_it_names(cache, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("")
    (cache / "truths").symlink_to(tmp_path / "other")
    assert main(["cache", "--clear"]) == 0
    assert (tmp_path / "other" / "mine").exists()


def test_a_folder_that_others_can_change_is_left_alone(cache, capsys):
    fill(cache)
    cache.chmod(0o777)
    assert main(["cache", "--clear"]) == 0
    assert "nothing is cached" in capsys.readouterr().out
    assert (cache / KERNEL).exists()


def test_a_relative_folder_is_refused(cache, monkeypatch, capsys):
    monkeypatch.setenv("INNAPROP_CACHE", "here")
    assert main(["cache"]) == 1
    assert "INNAPROP_CACHE must be an absolute path, got 'here'" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "innaprop", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"innaprop {innaprop.__version__}\n")
    done = subprocess.run([sys.executable, "-m", "innaprop"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
