"""A library that a wheel brings is loaded without a compiler, and only with its own source."""

import ctypes
import shutil

import pytest

from innaprop.forms import kernel, library

SOURCE = "int answer(void) { return ANSWER; }\n"
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no compiler cc")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("INNAPROP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "kernel.c"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def no_compiler(monkeypatch):
    def leave():
        monkeypatch.setenv("CC", "")
        monkeypatch.setenv("PATH", "/nowhere")

    return leave


def load(source, answer=42):
    library.load.cache_clear()
    return library.load(source, exports=("answer",), defines=(f"ANSWER={answer}",))


def build(source, answer=42):
    return library.build(source, source.parent, exports=("answer",), defines=(f"ANSWER={answer}",))


def test_it_is_loaded_where_there_is_no_compiler_and_nothing_is_cached(source, no_compiler):
    build(source)
    no_compiler()
    assert load(source).answer() == 42
    assert not (source.parent / "cache").exists()


def test_it_belongs_to_its_source_and_macros(source, no_compiler):
    build(source)
    no_compiler()
    assert "there is no C compiler" in load(source, 7)
    source.write_text(f"/* Changed. */\n{SOURCE}")
    assert "there is no C compiler" in load(source)


def test_one_for_another_platform_is_passed_over(source):
    built = build(source)
    built.unlink()  # It is mapped.
    built.write_bytes(b"\x7fELF of another machine")
    assert load(source).answer() == 42


def test_a_compiler_that_fails_is_named(source, no_compiler):
    source.write_text("this is not C\n")
    with pytest.raises(RuntimeError, match=r"kernel\.c could not be built by .*cc \(.*error"):
        build(source)
    no_compiler()
    with pytest.raises(RuntimeError, match=r"kernel\.c could not be built"):
        build(source)


def test_the_kernel_of_a_wheel_is_the_kernel(tmp_path):
    built = ctypes.CDLL(str(kernel.build(tmp_path)))
    layout = ctypes.c_char.in_dll(built, "innaprop_layout")
    assert ctypes.string_at(ctypes.addressof(layout)).decode().split() == list(kernel.SCALARS)
