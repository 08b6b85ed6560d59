"""Atomic writes: a file appears complete or not at all.

The content is written to a temporary file in the same folder, synced to disk, and renamed to the
target. The writer locks the temporary file until then. If the process is killed, the system
releases the lock, so that the next write to the same target can recognise the stale temporary file
and remove it.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

fcntl: ModuleType | None
try:
    import fcntl
except ModuleNotFoundError:  # Not on Windows.
    fcntl = None

_KINDS = {
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


def checked_path(path: Any) -> Path:
    """Return the path of a regular or not yet existing file, with symbolic links resolved.

    Args:
        path: A string or ``os.PathLike`` of one.

    Raises:
        TypeError: It is something else: bytes, a number or an open file.
        OSError: It is that of a folder, device, FIFO or socket, or its status cannot be read.
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        raise TypeError(
            f"path must be a string or an os.PathLike of one, got one of type {type(name).__name__}"
        )
    target = Path(os.path.realpath(name))
    try:
        kind = stat.S_IFMT(target.stat().st_mode)
    except FileNotFoundError:
        return target
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "path must be of a file, got a folder", name)
    if kind != stat.S_IFREG:
        found = _KINDS.get(kind, "something else")
        raise OSError(errno.EINVAL, f"path must be of a regular file, got {found}", name)
    return target


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to; at the end it replaces ``target`` atomically.

    It gets the mode of the file that it replaces; a new file, the default mode of the umask.

    Args:
        target: From ``checked_path``.

    Raises:
        OSError: The file cannot be written. An existing one is unchanged then.
    """
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mode = None
    _remove_left_over(target)
    name, descriptor = _create(target, 0o666 if mode is None else mode | 0o600)
    try:
        # The duplicate shares the lock, which is therefore held after the file object is closed.
        held = os.dup(descriptor) if fcntl else None
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                os.chmod(name, mode)
            os.replace(name, target)
        finally:
            if held is not None:
                os.close(held)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _create(target: Path, mode: int) -> tuple[str, int]:
    """Return the name and the descriptor of a new, locked temporary file beside the target."""
    while True:
        name = str(target.with_name(f".{target.name}.{secrets.token_hex(4)}.innaprop"))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(name, flags, mode)
        if fcntl is None:
            return name, descriptor
        with contextlib.suppress(OSError):  # Some file systems have no locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Before it was locked, another process may have removed it as stale.
        if os.path.exists(name):
            return name, descriptor
        os.close(descriptor)


def _remove_left_over(target: Path) -> None:
    """Remove stale temporary files of the same target, left by killed processes."""
    if fcntl is None:
        return
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.innaprop")
    for name in filter(ours.fullmatch, os.listdir(target.parent)):
        path = target.with_name(name)
        # A locked file belongs to a running process; one that cannot be opened, to another user.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(descriptor)
