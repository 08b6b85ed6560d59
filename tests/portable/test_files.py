"""Files appear whole or not at all, and hold no code."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import innaprop
from innaprop_core import INNAprop

ADAPTERS = Path(innaprop.__file__).parent


@pytest.fixture
def optimizer():
    one = INNAprop([np.ones((2, 3))])
    one.step([np.ones((2, 3))])
    return one


@pytest.fixture
def old(path, optimizer):
    """The bytes of a state that is there already."""
    innaprop.save_state(path, optimizer)
    optimizer.step([np.ones((2, 3))])
    return path.read_bytes()


def fail(*arguments, **options):
    raise OSError("no space left on device")


@pytest.mark.parametrize(
    ("module", "function"), [(os, "replace"), (os, "fsync"), (safetensors.numpy, "save_file")]
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    module, function, monkeypatch, path, optimizer, old
):
    monkeypatch.setattr(module, function, fail)
    with pytest.raises(OSError, match="no space left"):
        innaprop.save_state(path, optimizer)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_what_safetensors_cannot_write_is_an_error_of_the_system(monkeypatch, path, optimizer, old):
    def refuse(*arguments, **options):
        raise safetensors.SafetensorError("I/O error")

    monkeypatch.setattr(safetensors.numpy, "save_file", refuse)
    with pytest.raises(OSError, match="could not be written: I/O error"):
        innaprop.save_state(path, optimizer)
    assert path.read_bytes() == old


def test_the_new_file_takes_the_place_of_the_old_one_when_it_is_on_the_disk(
    monkeypatch, path, optimizer, old
):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (order.append("fsync"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    innaprop.save_state(path, optimizer)
    assert order == ["fsync", "replace"]
    assert path.read_bytes() != old
    assert innaprop.read_state(path).iterations == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_folder_that_is_not_there(path, optimizer):
    with pytest.raises(FileNotFoundError):
        innaprop.save_state(path.parent / "nowhere" / "state", optimizer)


def test_arrays_lie_in_the_file_as_they_are_indexed(path):
    """safetensors writes memory as it lies: columns first, of a transposed array."""
    optimizer = INNAprop([np.ones((2, 3))])
    gradient = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    optimizer.step([gradient])
    optimizer.set_state(k=1, m=[np.asfortranarray(optimizer.m[0])], v=optimizer.v)
    innaprop.save_state(path, optimizer)
    saved = innaprop.read_state(path).parameters["0"]
    np.testing.assert_array_equal(saved.momentum, optimizer.m[0])


def test_equal_states_are_equal_files(path, optimizer):
    innaprop.save_state(path, optimizer)
    first = path.read_bytes()
    innaprop.save_state(path, optimizer)
    assert path.read_bytes() == first


def test_nothing_reads_pickles():
    for file in [*ADAPTERS.glob("portable/*.py"), *ADAPTERS.glob("*/portable.py")]:
        text = file.read_text()
        assert "pickle" not in text, file
        assert "torch.load" not in text, file
        assert "np.load" not in text, file


def test_without_safetensors_the_message_says_what_to_install(monkeypatch, path, optimizer):
    for module in [m for m in sys.modules if m.partition(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (innaprop.save_state, innaprop.load_state):
        with pytest.raises(ImportError, match=r'pip install "innaprop\[state\]"'):
            call(path, optimizer)
    assert not path.exists()
