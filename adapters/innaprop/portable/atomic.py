"""A file that appears whole or not at all.

It is written under another name in the same folder and takes the place of the old one when it is
on the disk. Who writes holds a lock on that file until then. The system takes the lock away from
a process that has been killed, so that the next write to the same place finds what it has left,
and removes it.
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
    """Return the path of a regular file, or of nothing yet; links are followed.

    Args:
        path: A string or ``os.PathLike`` of one.

    Raises:
        TypeError: It is something else: bytes, a number or an open file.
        OSError: It is of a folder, a device, a FIFO or a socket, or cannot be looked at.
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
    """Give a file to write to; at the end it takes the place of ``target``.

    A new file has the mode that the umask leaves, one that replaces another has that one's mode.

    Args:
        target: From ``checked_path``.

    Raises:
        OSError: The file cannot be written. An older one is as it was then.
    """
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mode = None
    _remove_left_over(target)
    name, descriptor = _create(target, 0o666 if mode is None else mode | 0o600)
    try:
        # The lock belongs to what was opened, so that it outlives the file object.
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
    """Return the name and the descriptor of a new file beside the target, locked."""
    while True:
        name = str(target.with_name(f".{target.name}.{secrets.token_hex(4)}.innaprop"))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(name, flags, mode)
        if fcntl is None:
            return name, descriptor
        with contextlib.suppress(OSError):  # Some file systems have no locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have removed it as left over, before it was locked.
        if os.path.exists(name):
            return name, descriptor
        os.close(descriptor)


def _remove_left_over(target: Path) -> None:
    """Remove what killed processes have left of the same target."""
    if fcntl is None:
        return
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.innaprop")
    for name in filter(ours.fullmatch, os.listdir(target.parent)):
        path = target.with_name(name)
        # What is locked belongs to a living process; what cannot be opened, to somebody else.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(descriptor)
