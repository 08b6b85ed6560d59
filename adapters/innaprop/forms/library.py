"""Shared libraries, compiled from source once per machine and kept in the user's cache.

The file name of a cached library contains the SHA-256 of its content, which is checked before
loading: a truncated library would crash the process. If the cache cannot be used, each process
builds its own library, in about half a second.

A platform wheel contains the prebuilt library beside its source, so nothing is compiled. Its name
contains a hash of source and macros, so it is ignored if the source has changed.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

from innaprop.forms.cache import cache_folder, is_private, workshop

FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
"""Flags for every compiler; OpenMP is tried separately, since some do not support it."""
_BETWEEN = b"\0"
_TIMEOUT = 120.0
"""Time limit for a compiler, in seconds."""


@functools.cache
def load(
    source: Path,
    *,
    exports: tuple[str, ...],
    defines: tuple[str, ...] = (),
    includes: tuple[str, ...] = (),
    cplusplus: bool = False,
) -> ctypes.CDLL | str:
    """Return a library, built if necessary; or a sentence that says why there is none.

    Without a prebuilt library, compilers are tried in turn: ``CC``, the one that built Python, cc,
    gcc and clang; for C++ ``CXX``, the one that built Python, c++, g++ and clang++.

    Args:
        source: A file in C or C++.
        exports: The symbols that the library must export.
        defines: Macros, such as ``"SIZE=3"``.
        includes: Folders with headers, which count as part of the source.
        cplusplus: Whether the source is C++17.

    Returns:
        The library, the same one at every call in a process; or the reason. Never raises or prints
        anything.
    """
    prebuilt = source.with_name(_prebuilt(source, defines))
    if prebuilt.exists():
        with suppress(OSError, RuntimeError):  # It may be for another platform.
            return _open(prebuilt, exports)
    language, variable = ("C++", "CXX") if cplusplus else ("C", "CC")
    try:
        cache = cache_folder()
    except ValueError as error:
        return str(error)
    compilers, reasons = _compilers(variable)
    if not compilers:
        return ": ".join(
            [f"there is no {language} compiler (set {variable} to name one)", *reasons]
        )
    options = [*FLAGS, *(["-std=c++17"] if cplusplus else [])]
    options += [*(f"-D{define}" for define in defines), *(f"-I{folder}" for folder in includes)]
    for compiler in compilers:
        command = [*compiler, *options]
        try:
            stem = f"{source.stem}-{_key(source, command, includes)}"
            for kept in sorted(cache.glob(f"{stem}-*.so")) if cache else ():
                if library := _open_kept(kept, exports):
                    return library
            return _build([*command, str(source)], cache, stem, exports)
        except (OSError, RuntimeError) as error:
            reasons.append(f"{shlex.join(compiler)} ({error})")
    return f"{source.name} could not be built by {', nor by '.join(reasons)}"


def build(
    source: Path, folder: Path, *, exports: tuple[str, ...], defines: tuple[str, ...] = ()
) -> Path:
    """Build a C library to distribute, under the name that ``load`` looks for beside its source.

    Args:
        source: A file in C.
        folder: The folder to put the library in.
        exports: The symbols that it must export; not checked if it is for another platform.
        defines: Macros.

    Raises:
        RuntimeError: No compiler could build it, or it lacks a symbol.
    """
    compilers, reasons = _compilers("CC")
    for compiler in compilers:
        made = folder / _prebuilt(source, defines)
        command = [*compiler, *FLAGS, *(f"-D{define}" for define in defines), str(source)]
        try:
            _compile(command, made)
        except (OSError, RuntimeError) as error:
            reasons.append(f"{shlex.join(compiler)} ({error})")
            continue
        made.chmod(0o755)
        with suppress(OSError):
            _open(made, exports)
        return made
    raise RuntimeError(f"{source.name} could not be built by {', nor by '.join(reasons)}")


def _prebuilt(source: Path, defines: tuple[str, ...]) -> str:
    parts = (source.read_bytes(), *(define.encode() for define in defines))
    return f"{source.stem}-{hashlib.sha256(_BETWEEN.join(parts)).hexdigest()[:16]}.so"


def _compilers(variable: str) -> tuple[list[list[str]], list[str]]:
    """Return the commands to try, and why the one that the variable names cannot be used."""
    named = os.environ.get(variable, "").strip()
    usual = {"CC": ("cc", "gcc", "clang"), "CXX": ("c++", "g++", "clang++")}[variable]
    commands: list[list[str]] = []
    reasons = []
    for candidate in dict.fromkeys((named, sysconfig.get_config_var(variable) or "", *usual)):
        wrong = "not found"
        try:
            command = shlex.split(candidate)
        except ValueError as error:  # An unbalanced quotation mark.
            command, wrong = [], str(error)
        if not command or not shutil.which(command[0]):
            if candidate and candidate == named:
                reasons.append(f"{named} ({wrong})")
        elif command not in commands:
            commands.append(command)
    return commands, reasons


def _key(source: Path, command: list[str], includes: tuple[str, ...]) -> str:
    """Return a hash of everything that a library is built from: source, compiler, machine."""
    headers = [h for folder in includes for h in sorted(Path(folder).rglob("*.h"))]
    parts = [file.read_bytes() for file in (source, *headers)]
    parts += [part.encode() for part in (*command, platform.machine())]
    return hashlib.sha256(_BETWEEN.join(parts)).hexdigest()[:16]


def _build(
    command: list[str], cache: Path | None, stem: str, exports: tuple[str, ...]
) -> ctypes.CDLL:
    # Not in the cache, whose disk may be full; compilers need the temporary folder anyway.
    with workshop(Path(tempfile.gettempdir())) as folder:
        made = folder / f"{stem}.so"
        _compile(command, made)
        if cache:
            kept = cache / f"{stem}-{_digest(made)}.so"
            with suppress(OSError), workshop(cache) as beside:
                # Two processes may build at the same time: os.replace is atomic.
                os.replace(shutil.copy(made, beside), kept)
            if library := _open_kept(kept, exports):
                return library
        # The file may be deleted once it is mapped.
        return _open(made, exports)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _open(file: Path, exports: tuple[str, ...]) -> ctypes.CDLL:
    library = ctypes.CDLL(str(file))
    if missing := [name for name in exports if not hasattr(library, name)]:
        raise RuntimeError(f"its library does not export {', '.join(missing)}")
    return library


def _open_kept(file: Path, exports: tuple[str, ...]) -> ctypes.CDLL | None:
    """Open a cached library; delete it if it is damaged or others can write to it."""
    with suppress(OSError, RuntimeError):
        if file.stem.endswith(f"-{_digest(file)}") and is_private(file):
            return _open(file, exports)
    with suppress(OSError):
        file.unlink()
    return None


def _compile(command: list[str], made: Path) -> None:
    command = [*command, "-o", str(made), "-lm"]
    done = _run([*command, "-fopenmp"])
    if done.returncode:
        done = _run(command)  # Without OpenMP: one thread.
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        raise RuntimeError(next(iter(errors or lines[-1:]), f"exit status {done.returncode}"))
    if not made.exists():
        raise RuntimeError("it created no file")
    made.chmod(0o700)  # Regardless of the umask.


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},  # Untranslated error messages.
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it took more than {_TIMEOUT:g} s") from None
