"""Files appear whole or not at all, and hold no code."""

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import innaprop
from innaprop.portable.atomic import replaced
from innaprop.portable.fitting import renamed
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


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    function, monkeypatch, path, optimizer, old
):
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="no space left"):
        innaprop.save_state(path, optimizer)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_no_other(path, old):
    """The system refuses what goes beyond the largest size of a file."""
    code = """
import resource, signal, sys
import numpy as np
import innaprop, innaprop_core
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    innaprop.save_state(sys.argv[1], innaprop_core.INNAprop([np.ones(1000)]))
except OSError as error:
    sys.exit(0 if "File too large" in str(error) else repr(error))
sys.exit("nothing was refused")
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


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


@pytest.fixture
def umask():
    """Set the umask until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_leaves(mask, expected, umask, path, optimizer):
    umask(mask)
    innaprop.save_state(path, optimizer)
    assert mode(path) == expected


@pytest.mark.parametrize("own", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_keeps_its_mode_and_is_never_open_to_more(
    own, mask, umask, monkeypatch, path, optimizer, old
):
    path.chmod(own)
    seen = []
    fsync = os.fsync

    def look(descriptor):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    umask(mask)
    innaprop.save_state(path, optimizer)
    assert mode(path) == own
    assert path.read_bytes() != old
    assert [found & 0o077 & ~own for found in seen] == [0]


def test_a_link_stays_and_what_it_names_is_replaced(path, optimizer, old):
    link = path.with_name("link")
    link.symlink_to(path.name)
    innaprop.save_state(link, optimizer)
    assert link.is_symlink()
    assert path.read_bytes() != old


KILLED = """
import os, signal, sys
import numpy as np
import innaprop, innaprop_core
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
innaprop.save_state(sys.argv[1], innaprop_core.INNAprop([np.ones(3)]))
"""


def kill_one_that_writes(path):
    done = subprocess.run([sys.executable, "-c", KILLED, path])
    assert done.returncode == -signal.SIGKILL


def test_what_killed_processes_leave_is_removed_by_the_next_write(path, optimizer, old):
    others = [
        path.with_name(f".{path.name}.{end}")
        for end in ("backup.innaprop", "01234567.innaprop.old", "01234567")
    ]
    for other in others:
        other.write_bytes(b"of somebody else")
    for _ in range(3):
        kill_one_that_writes(path)
        assert path.read_bytes() == old
        # One file is left, never one more for each of them.
        assert len(set(path.parent.iterdir()) - {path, *others}) == 1
    innaprop.save_state(path, optimizer)
    assert set(path.parent.iterdir()) == {path, *others}


def test_what_a_living_process_writes_is_left_to_it(path, optimizer):
    with replaced(path) as file:
        file.write(b"first")
        innaprop.save_state(path, optimizer)
        assert innaprop.read_state(path).iterations == 1
        file.write(b" and second")
    assert path.read_bytes() == b"first and second"
    assert list(path.parent.iterdir()) == [path]


def test_many_may_write_at_once(path):
    def save(number):
        optimizer = INNAprop([np.full(100, number)])
        for _ in range(20):
            innaprop.save_state(path, optimizer)
            read = innaprop.read_state(path).parameters["0"].psi
            assert (read == read[0]).all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, [1.0, 2.0, 3.0, 4.0]))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("locks", ["refused", "unknown"])
def test_where_there_are_no_locks_files_are_written_all_the_same(
    locks, monkeypatch, path, optimizer, old
):
    kill_one_that_writes(path)
    left = set(path.parent.iterdir()) - {path}
    if locks == "refused":
        monkeypatch.setattr("fcntl.flock", fail)
    else:
        monkeypatch.setattr("innaprop.portable.atomic.fcntl", None)
    innaprop.save_state(path, optimizer)
    assert path.read_bytes() != old
    # Nobody knows there whether its writer lives.
    assert set(path.parent.iterdir()) == {path, *left}


def test_a_path_need_not_be_valid_unicode(path, optimizer):
    strange = os.path.join(os.fsencode(path.parent), b"\xff.safetensors")
    innaprop.save_state(os.fsdecode(strange), optimizer)
    assert innaprop.read_state(os.fsdecode(strange)).iterations == 1


class Counted(str):
    """A name that counts how often it is compared."""

    compared = 0

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_many_names_are_compared_a_few_times_each(path):
    count = 2000
    optimizer = INNAprop([np.ones(1)] * count)
    names = [Counted(i) for i in range(count)]
    innaprop.save_state(path, optimizer, names)
    innaprop.load_state(path, optimizer, names, names={"0": "0"})
    assert Counted.compared < 100 * count
    Counted.compared = 0
    renamed(innaprop.read_state(path), {str(i): Counted(f"new {i}") for i in range(count)})
    assert Counted.compared < 100 * count


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
    innaprop.save_state(path, optimizer)
    for call in (innaprop.read_state, lambda path: innaprop.load_state(path, optimizer)):
        with pytest.raises(ModuleNotFoundError, match=r'pip install "innaprop\[state\]"'):
            call(path)


def test_safetensors_finds_every_array_at_a_multiple_of_its_width(path):
    shapes = {"a": (3,), "b": (2, 3), "c": (), "d": (0, 2), '\u00e9/\u20ac "': (1,)}
    optimizer = INNAprop(
        [np.ones(s, d) for s, d in zip(shapes.values(), ["float32", "float64"] * 3, strict=False)]
    )
    optimizer.step([2 * p for p in optimizer.parameters])
    innaprop.save_state(path, optimizer, list(shapes))
    arrays = safetensors.numpy.load_file(path)
    assert len(arrays) == 3 * len(shapes)
    for i, name in enumerate(shapes):
        for what, held in (("momentum", optimizer.m), ("second_moment", optimizer.v)):
            array = arrays[f"{name}.{what}"]
            assert array.dtype == held[i].dtype
            np.testing.assert_array_equal(array, held[i])
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % {"F64": 8, "F32": 4}[entry["dtype"]] == 0
