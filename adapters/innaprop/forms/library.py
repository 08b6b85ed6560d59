"""Shared libraries, built from their source once per machine and kept in the user's cache.

The name of a kept library holds the SHA-256 of its content, which is compared before it is loaded:
one that was cut off would end the process. Where the cache cannot be used, every process builds its
own library, in half a second or so.

A wheel for one platform brings the library built, beside its source, and nothing is compiled there.
Its name holds the hash of source and macros: to a source that has changed it does not belong.
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
"""What every compiler is given, but for OpenMP, which not every one has."""
_BETWEEN = b"\0"
_TIMEOUT = 120.0
"""Seconds that a compiler may take."""


@functools.cache
def load(
    source: Path,
    *,
    exports: tuple[str, ...],
    defines: tuple[str, ...] = (),
    includes: tuple[str, ...] = (),
    cplusplus: bool = False,
) -> ctypes.CDLL | str:
    """Return a library, built if need be; or why there is none, in a sentence.

    Where none was built beforehand, compilers are tried in turn: the one that ``CC`` names, the one
    that Python was built with, cc, gcc and clang; for C++ ``CXX``, Python's, c++, g++ and clang++.

    Args:
        source: A file in C or C++.
        exports: The symbols that the library must have.
        defines: Macros, such as ``"SIZE=3"``.
        includes: Folders with headers, which count as part of the source.
        cplusplus: Whether the source is C++17.

    Returns:
        The library, the same one at every call of a process; or the reason. Nothing is raised or
        printed.
    """
    prebuilt = source.with_name(_prebuilt(source, defines))
    if prebuilt.exists():
        with suppress(OSError, RuntimeError):  # It may be another platform's.
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
    """Build a library in C for others, under the name by which ``load`` finds it beside its source.

    Args:
        source: A file in C.
        folder: Where to put the library.
        exports: The symbols that it must have; not looked at if it is another platform's.
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
    """Return the commands to try; and what is wrong with the one that the variable names."""
    named = os.environ.get(variable, "").strip()
    usual = {"CC": ("cc", "gcc", "clang"), "CXX": ("c++", "g++", "clang++")}[variable]
    commands: list[list[str]] = []
    reasons = []
    for candidate in dict.fromkeys((named, sysconfig.get_config_var(variable) or "", *usual)):
        wrong = "not found"
        try:
            command = shlex.split(candidate)
        except ValueError as error:  # A quotation mark without its twin.
            command, wrong = [], str(error)
        if not command or not shutil.which(command[0]):
            if candidate and candidate == named:
                reasons.append(f"{named} ({wrong})")
        elif command not in commands:
            commands.append(command)
    return commands, reasons


def _key(source: Path, command: list[str], includes: tuple[str, ...]) -> str:
    """Return what tells a library from those of other sources, compilers and machines."""
    headers = [h for folder in includes for h in sorted(Path(folder).rglob("*.h"))]
    parts = [file.read_bytes() for file in (source, *headers)]
    parts += [part.encode() for part in (*command, platform.machine())]
    return hashlib.sha256(_BETWEEN.join(parts)).hexdigest()[:16]


def _build(
    command: list[str], cache: Path | None, stem: str, exports: tuple[str, ...]
) -> ctypes.CDLL:
    # Not in the cache, whose disk may be full: the compiler works in the temporary folder anyway.
    with workshop(Path(tempfile.gettempdir())) as folder:
        made = folder / f"{stem}.so"
        _compile(command, made)
        if cache:
            kept = cache / f"{stem}-{_digest(made)}.so"
            with suppress(OSError), workshop(cache) as beside:
                # Two processes may build at once; whole files take each other's place.
                os.replace(shutil.copy(made, beside), kept)
            if library := _open_kept(kept, exports):
                return library
        # Once it is mapped, its file may go.
        return _open(made, exports)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _open(file: Path, exports: tuple[str, ...]) -> ctypes.CDLL:
    library = ctypes.CDLL(str(file))
    if missing := [name for name in exports if not hasattr(library, name)]:
        raise RuntimeError(f"its library does not export {', '.join(missing)}")
    return library


def _open_kept(file: Path, exports: tuple[str, ...]) -> ctypes.CDLL | None:
    """Open a library of the cache; or remove it, if it is not what it should be."""
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
        raise RuntimeError("it made no file")
    made.chmod(0o700)  # Whatever the umask.


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},  # Where errors are called errors.
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it took more than {_TIMEOUT:g} s") from None
