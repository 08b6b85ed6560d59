"""A library is built once, by some compiler, and only what the user has built is ever loaded."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from innaprop.forms import library

ANSWER = """
#ifndef ANSWER
#define ANSWER 42
#endif
int answer(void) { return ANSWER; }
"""
LOAD = """
import os, sys, sysconfig
from pathlib import Path
from innaprop.forms import library
source, umask, uid, *defines = sys.argv[1:]
os.umask(int(umask, 8))
if uid:
    os.setgroups([])
    os.setgid(int(uid))
    sysconfig.get_config_vars()  # Python itself may be in root's home.
    os.setuid(int(uid))
loaded = library.load(Path(source), exports=("answer",), defines=tuple(defines))
print(loaded if isinstance(loaded, str) else loaded.answer())
"""
MARKED = """
#include <stdio.h>
__attribute__((constructor)) static void run(void) { fclose(fopen(MARK, "w")); }
int answer(void) { return 666; }
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is another's")
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no compiler cc")


class Machine:
    """Processes that load one source, and the folders that they find."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "kernel.c"
        self.source.write_text(ANSWER)
        self.cache = folder / "cache"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HOME": str(folder / "home"),
            "TMPDIR": str(self.temporary),
            "INNAPROP_CACHE": str(self.cache),
            "CALLS": str(folder / "calls"),
        }

    def start(self, *defines, umask="022", uid="", **environment) -> subprocess.Popen:
        changed = {**self.environment, **environment}
        return subprocess.Popen(
            [sys.executable, "-c", LOAD, str(self.source), umask, uid, *defines],
            env={name: value for name, value in changed.items() if value is not None},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, *defines, **options) -> str:
        """Return what a new process gets: the library's answer, or why there is none."""
        process = self.start(*defines, **options)
        output, _ = process.communicate()
        assert process.returncode == 0
        return output.strip()

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir())

    def compiler(self, script: str, name="compiler") -> str:
        """Make a command of a shell script, which leaves a line at each call."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho called >> "$CALLS"\n{script}\n')
        path.chmod(0o755)
        return str(path)

    def calls(self) -> int:
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def here(machine, monkeypatch):
    """The same folders, for this process."""
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(machine.temporary))
    return machine


@pytest.fixture
def open_machine():
    """One whose folder other users can enter, as they cannot pytest's."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    machine = Machine(folder)
    machine.temporary.chmod(0o1777)
    (folder / "calls").touch()
    (folder / "calls").chmod(0o666)
    yield machine
    shutil.rmtree(folder)


# Built once.


def test_the_next_process_builds_nothing(machine):
    compiler = machine.compiler('exec cc "$@"')
    assert machine.load(CC=compiler) == "42"
    calls, kept = machine.calls(), machine.kept()
    assert machine.load(CC=compiler) == "42"
    assert (machine.calls(), machine.kept()) == (calls, kept)
    assert len(kept) == 1
    assert list(machine.temporary.iterdir()) == []


def test_a_process_asks_once(here):
    loaded = library.load(here.source, exports=("answer",))
    shutil.rmtree(here.cache)
    assert library.load(here.source, exports=("answer",)) is loaded


def test_another_source_macro_or_command_makes_another_library(machine):
    assert machine.load() == "42"
    assert machine.load("ANSWER=7") == "7"
    assert machine.load(CC="cc -DANSWER=8") == "8"
    machine.source.write_text(ANSWER.replace("42", "43"))
    assert machine.load() == "43"
    assert machine.load("ANSWER=7") == "7"
    assert len(machine.kept()) == 5


def test_processes_that_build_at_once(machine):
    slow = machine.compiler('sleep 0.3; exec cc "$@"')
    processes = [machine.start(CC=slow) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in processes] == ["42"] * 4
    assert machine.calls() > 1
    assert len(machine.kept()) == 1
    assert list(machine.temporary.iterdir()) == []


def test_cplusplus_with_headers(here, tmp_path):
    headers = tmp_path / "include" / "deep"
    headers.mkdir(parents=True)
    source = tmp_path / "kernel.cc"
    source.write_text(
        '#include "deep/answer.h"\n#include <optional>\n'
        'extern "C" int answer() { return std::optional<int>(ANSWER).value(); }'
    )
    for value in (1, 2):
        (headers / "answer.h").write_text(f"#define ANSWER {value}")
        # Not from the process's own cache, as in the next process.
        loaded = library.load.__wrapped__(
            source, exports=("answer",), includes=(str(tmp_path / "include"),), cplusplus=True
        )
        assert loaded.answer() == value


def test_it_needs_no_framework():
    code = "import sys, innaprop.forms.library; print({'torch', 'jax'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


# By whatever compiler there is.

CC, FALSE, TRUE = (shutil.which(name) for name in ("cc", "false", "true"))
HIDING = f"{CC} -fvisibility=hidden"
BROKEN = {
    "absent": ("no-such-compiler", "no-such-compiler (not found)"),
    "half quoted": ('"cc', '"cc (No closing quotation)'),
    "silent": (FALSE, f"{FALSE} (exit status 1)"),
    "idle": (TRUE, f"{TRUE} (it created no file)"),
    "hiding": (HIDING, f"{HIDING} (its library does not export answer)"),
}


@pytest.mark.parametrize(("compiler", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_compiler_hides_no_good_one(machine, compiler, reason):
    assert machine.load(CC=compiler) == "42"
    assert len(machine.kept()) == 1


@pytest.mark.parametrize(("compiler", "reason"), BROKEN.values(), ids=BROKEN)
def test_every_compiler_is_told_with_its_reason(machine, compiler, reason):
    only = machine.folder / "bin"
    only.mkdir()
    for name in ("as", "ld"):
        (only / name).symlink_to(shutil.which(name))
    machine.compiler("echo broken >&2; exit 3", "bin/clang")
    message = machine.load(CC=compiler, PATH=str(only))
    assert message == f"kernel.c could not be built by {reason}, nor by clang (broken)"
    assert machine.kept() == []
    assert list(machine.temporary.iterdir()) == []


def test_the_message_has_the_first_error_of_the_compiler(machine):
    machine.source.write_text("int answer(void) { return no_such_name; }\nint f(void) { 1 }\n")
    message = machine.load(CC="cc")
    assert "kernel.c:1:27: error: " in message
    assert "no_such_name" in message
    assert "^" not in message


def test_compilers_speak_english(machine):
    """Else none of their lines need have the word error."""
    broken = machine.compiler('echo "error in $LC_ALL" >&2; exit 1')
    machine.source.write_text("#error nonsense")
    assert f"{broken} (error in C)" in machine.load(CC=broken, LC_ALL="de_DE.UTF-8")


def test_a_message_without_an_error_is_told_by_its_last_line(machine):
    broken = machine.compiler("printf 'first\\nlicence expired\\n\\n' >&2; exit 1")
    machine.source.write_text("#error nonsense")
    assert f"{broken} (licence expired)" in machine.load(CC=broken)


@pytest.mark.parametrize("compiler", [None, "", " ", "no-such-compiler"])
def test_no_compiler_at_all(machine, compiler):
    message = machine.load(CC=compiler, PATH=str(machine.temporary))
    assert message.startswith("there is no C compiler (set CC to name one)")
    assert ("no-such-compiler (not found)" in message) == (compiler == "no-such-compiler")


def test_a_compiler_that_never_ends(here, monkeypatch):
    here.source.write_text("#error nonsense")
    monkeypatch.setenv("CC", here.compiler("sleep 2"))
    monkeypatch.setattr(library, "_TIMEOUT", 0.2)
    message = library.load.__wrapped__(here.source, exports=("answer",))
    assert message.startswith("kernel.c could not be built by ")
    assert "compiler (it took more than 0.2 s), nor by" in message


def test_without_openmp(machine):
    without = machine.compiler('case "$*" in *-fopenmp*) exit 1;; esac; exec cc "$@"')
    machine.source.write_text("int answer(void) {\n#ifdef _OPENMP\nreturn 1;\n#endif\nreturn 2; }")
    assert machine.load(CC="cc") == "1"
    assert machine.load(CC=without) == "2"


# Whole, or not at all.


@pytest.mark.parametrize("keep", [0, 100, 4096, 0.5, 0.99])
def test_a_library_that_was_cut_off_is_made_anew(machine, keep):
    assert machine.load() == "42"
    (kept,) = machine.cache.iterdir()
    content = kept.read_bytes()
    os.truncate(kept, keep if isinstance(keep, int) else int(keep * len(content)))
    assert machine.load() == "42"
    assert [path.read_bytes() for path in machine.cache.iterdir()] == [content]


def test_a_library_of_which_a_bit_has_changed_is_made_anew(machine):
    assert machine.load() == "42"
    (kept,) = machine.cache.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content.replace((42).to_bytes(4, "little"), (43).to_bytes(4, "little")))
    assert kept.read_bytes() != content
    assert machine.load() == "42"
    assert kept.read_bytes() == content


def test_a_kill_leaves_nothing_for_ever(machine):
    killing = machine.compiler("kill -9 $PPID; exec cc")
    process = machine.start(CC=killing)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (left,) = machine.temporary.iterdir()
    beside = machine.cache / left.name
    beside.mkdir()
    (beside / "kernel.so").write_text("")
    assert machine.load() == "42"
    assert left.exists()  # Somebody might be at work in it.
    assert beside.exists()
    for folder in (left, beside):
        os.utime(folder, (time.time() - 7200,) * 2)
    assert machine.load("ANSWER=1") == "1"
    assert not left.exists()
    assert not beside.exists()


# What others could have put there does not run.


@pytest.fixture
def plant(machine):
    """Put a library where the right one would be, and return the file that it makes when run."""

    def plant(**options) -> Path:
        mark = machine.folder / "mark"
        assert machine.load(**options) == "42"
        (right,) = machine.cache.iterdir()
        source, made = machine.folder / "planted.c", machine.folder / "planted.so"
        source.write_text(MARKED)
        subprocess.run(
            ["cc", "-shared", "-fPIC", f'-DMARK="{mark}"', str(source), "-o", str(made)], check=True
        )
        name = right.name.rpartition("-")[0]
        right.unlink()
        planted = machine.cache / f"{name}-{library._digest(made)}.so"
        shutil.move(made, planted)
        planted.chmod(0o700)
        return mark

    return plant


def test_what_the_user_has_put_there_runs(machine, plant):
    """Else the tests below would show nothing."""
    mark = plant()
    assert machine.load() == "666"
    assert mark.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_cache_that_others_can_write_to(machine, plant, mode):
    mark = plant()
    machine.cache.chmod(mode)
    assert machine.load() == "42"
    assert not mark.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_cache_in_a_folder_that_others_can_write_to(machine, plant, mode):
    machine.cache = machine.folder / "shared" / "own"
    machine.environment["INNAPROP_CACHE"] = str(machine.cache)
    mark = plant()
    (machine.folder / "shared").chmod(mode)
    assert machine.load() == "42"
    assert not mark.exists()


def test_a_link_into_a_folder_that_others_can_write_to(machine, plant):
    machine.cache = machine.folder / "shared" / "own"
    link = machine.folder / "link"
    link.symlink_to(machine.cache)
    machine.environment["INNAPROP_CACHE"] = str(link)
    mark = plant()
    (machine.folder / "shared").chmod(0o777)
    assert machine.load() == "42"
    assert not mark.exists()


def test_a_library_that_others_can_write_to(machine, plant):
    mark = plant()
    (planted,) = machine.cache.iterdir()
    planted.chmod(0o722)
    assert machine.load() == "42"
    assert not mark.exists()
    assert not planted.exists()


@as_root
@pytest.mark.parametrize("whose", ["library", "cache", "parent"])
def test_what_belongs_to_another_user(machine, plant, whose):
    machine.cache = machine.folder / "parent" / "own"
    machine.environment["INNAPROP_CACHE"] = str(machine.cache)
    mark = plant()
    (planted,) = machine.cache.iterdir()
    path = {"library": planted, "cache": machine.cache, "parent": machine.cache.parent}[whose]
    os.chown(path, 12345, 12345)
    assert machine.load() == "42"
    assert not mark.exists()


@as_root
def test_nothing_is_made_where_another_user_is_at_home(machine):
    home = machine.folder / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    assert machine.load(INNAPROP_CACHE=None) == "42"
    assert list(home.iterdir()) == []


def test_a_sticky_folder_above_the_cache_is_good(machine):
    above = machine.folder / "sticky"
    above.mkdir()
    above.chmod(0o1777)
    assert machine.load(INNAPROP_CACHE=str(above / "own")) == "42"
    assert len(list((above / "own").iterdir())) == 1


@pytest.mark.parametrize("umask", ["000", "002", "077"])
def test_what_is_made_is_the_users_whatever_the_umask(machine, umask):
    made = machine.folder / "made"
    compiler = machine.compiler('exec cc "$@"')
    options = {"umask": umask, "CC": compiler, "INNAPROP_CACHE": str(made / "deep" / "cache")}
    assert machine.load(**options) == "42"
    found = [made, *made.rglob("*")]
    assert len(found) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o700}
    calls = machine.calls()
    assert machine.load(**options) == "42"
    assert machine.calls() == calls


# Where the cache is.


def test_the_place_of_the_cache(machine):
    home = machine.folder / "home"
    expected = "Library/Caches/innaprop" if sys.platform == "darwin" else ".cache/innaprop"
    assert machine.load(INNAPROP_CACHE=None) == "42"
    assert len(list((home / expected).iterdir())) == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has another place for caches")
def test_xdg_cache_home(machine):
    place = machine.folder / "xdg"
    assert machine.load(INNAPROP_CACHE=None, XDG_CACHE_HOME=str(place)) == "42"
    assert len(list((place / "innaprop").iterdir())) == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has another place for caches")
def test_a_relative_xdg_cache_home_is_ignored(machine):
    assert machine.load(INNAPROP_CACHE=None, XDG_CACHE_HOME="xdg") == "42"
    assert not (machine.folder / "xdg").exists()
    assert len(list((machine.folder / "home/.cache/innaprop").iterdir())) == 1


@pytest.mark.parametrize("value", ["cache", "./cache", "~/cache"])
def test_a_relative_innaprop_cache_is_refused(machine, value):
    reason = f"INNAPROP_CACHE must be an absolute path, got {value!r}"
    assert machine.load(INNAPROP_CACHE=value) == reason


# No cache costs time, but no library.

UNUSABLE = {
    "a file": {"INNAPROP_CACHE": "{folder}/kernel.c"},
    "below a file": {"INNAPROP_CACHE": "{folder}/kernel.c/cache"},
    "a loop of links": {"INNAPROP_CACHE": "{folder}/loop/cache"},
    "a read-only file system": {"INNAPROP_CACHE": "/proc/innaprop"},
    "a home that is relative": {"INNAPROP_CACHE": None, "HOME": "home"},
    "a home that is no folder": {"INNAPROP_CACHE": None, "HOME": "/dev/null"},
}


@pytest.mark.parametrize("environment", UNUSABLE.values(), ids=UNUSABLE)
def test_a_cache_that_cannot_be_used(machine, environment):
    (machine.folder / "loop").symlink_to("loop")
    before = sorted(machine.folder.iterdir())
    changed = {
        name: value and value.format(folder=machine.folder) for name, value in environment.items()
    }
    assert machine.load(**changed) == "42"
    assert sorted(machine.folder.iterdir()) == before
    assert list(machine.temporary.iterdir()) == []


@as_root
@pytest.mark.parametrize("home", [None, "/", "/root"])
def test_a_user_without_a_name_or_a_home(open_machine, home):
    """As in a container that runs under any number."""
    done = open_machine.load(uid="54321", INNAPROP_CACHE=None, HOME=home)
    assert done == "42"
    assert list(open_machine.temporary.iterdir()) == []


@as_root
def test_a_cache_that_the_user_cannot_write_to(open_machine):
    machine = open_machine
    machine.cache.mkdir(mode=0o755)
    compiler = machine.compiler('exec cc "$@"')
    for built in (1, 2):
        assert machine.load(uid="54321", CC=compiler) == "42"
        assert machine.calls() == built
        assert machine.kept() == []
        assert list(machine.temporary.iterdir()) == []


@as_root
def test_a_cache_that_root_has_filled_for_all(open_machine):
    machine = open_machine
    compiler = machine.compiler('exec cc "$@"')
    assert machine.load(CC=compiler) == "42"
    for path in (machine.cache, *machine.cache.iterdir()):
        path.chmod(0o755)
    calls = machine.calls()
    assert machine.load(uid="54321", CC=compiler) == "42"
    assert machine.calls() == calls


def test_a_cache_whose_disk_is_full(here, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy", full)
    assert library.load(here.source, exports=("answer",)).answer() == 42
    assert here.kept() == []
    assert list(here.temporary.iterdir()) == []
