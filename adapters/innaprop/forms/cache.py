"""The user's cache folder for compiled kernels, and private temporary folders to build in.

Libraries loaded from the cache run with the user's rights, so nobody else may write to it.
"""

import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WORKSHOP = "innaprop-build-"
"""Prefix of the names of build folders."""
_LEFT_BEHIND = 3600.0
"""Age in seconds at which a build folder counts as abandoned."""


def cache_folder() -> Path | None:
    """Return the user's cache folder, created if necessary.

    It is ``INNAPROP_CACHE`` if set, otherwise ``innaprop`` in the system's cache folder.

    Returns:
        The folder, with symbolic links resolved; or None if there is none that only the user can
        change.

    Raises:
        ValueError: ``INNAPROP_CACHE`` is a relative path.
    """
    named = os.environ.get("INNAPROP_CACHE")
    if named and not Path(named).is_absolute():
        raise ValueError(f"INNAPROP_CACHE must be an absolute path, got {named!r}")
    try:
        folder = Path(os.path.realpath(named or _systems() / "innaprop"))
        # One by one, since Path.mkdir creates parents with the mode of the umask.
        for place in (*reversed(folder.parents), folder):
            place.mkdir(mode=0o700, exist_ok=True)
            # In a sticky folder, such as /tmp, users cannot rename each other's files.
            if not is_private(place, or_sticky=place != folder):
                return None
    except (OSError, RuntimeError):  # RuntimeError: the user has no home.
        return None
    return folder


def is_private(path: Path, *, or_sticky: bool = False) -> bool:
    """Return whether only the user and root can write to a file or folder.

    Args:
        path: The file or folder; its ancestors are not checked.
        or_sticky: Whether a sticky folder is accepted although others may write to it.

    Raises:
        OSError: There is no such file, or its status cannot be read.
    """
    if os.name != "posix":
        return False  # Owner and mode say nothing about access.
    about = path.stat()
    writable = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    excused = or_sticky and about.st_mode & stat.S_ISVTX
    return about.st_uid in (0, os.geteuid()) and (not writable or bool(excused))


@contextmanager
def workshop(parent: Path) -> Iterator[Path]:
    """Create a private temporary folder; also remove folders that killed processes left behind.

    Args:
        parent: The folder to create it in.

    Raises:
        OSError: It cannot be created.
    """
    for folder in parent.glob(f"{_WORKSHOP}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(folder)
    folder = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _systems() -> Path:
    """Return the system's folder for the user's caches."""
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG specification says to ignore relative paths.
        folder = folder if folder.is_absolute() else Path.home() / ".cache"
    if not folder.is_absolute():
        raise RuntimeError(f"HOME must be an absolute path, got {os.environ.get('HOME')!r}")
    return folder
