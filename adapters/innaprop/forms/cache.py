"""The user's cache folder for what is built, and private folders to build in.

What is loaded from there runs as the user: it must be where nobody else can write.
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
"""How the names of folders begin in which something is built."""
_LEFT_BEHIND = 3600.0
"""Seconds after which nobody builds in such a folder any more."""


def cache_folder() -> Path | None:
    """Return the user's cache folder, made if need be.

    It is what ``INNAPROP_CACHE`` names, or ``innaprop`` in the folder that the system has for it.

    Returns:
        The folder, its path free of links; or None, if there is none that others cannot change.

    Raises:
        ValueError: ``INNAPROP_CACHE`` is a relative path.
    """
    named = os.environ.get("INNAPROP_CACHE")
    if named and not Path(named).is_absolute():
        raise ValueError(f"INNAPROP_CACHE must be an absolute path, got {named!r}")
    try:
        folder = Path(os.path.realpath(named or _systems() / "innaprop"))
        # One by one: Path.mkdir would give parents whatever mode the umask leaves.
        for place in (*reversed(folder.parents), folder):
            place.mkdir(mode=0o700, exist_ok=True)
            # In a sticky folder, such as /tmp, nobody can rename what is another's.
            if not is_private(place, or_sticky=place != folder):
                return None
    except (OSError, RuntimeError):  # RuntimeError: the user has no home.
        return None
    return folder


def is_private(path: Path, *, or_sticky: bool = False) -> bool:
    """Return whether nobody but the user and root can change a file, or what a folder lists.

    Args:
        path: The file or folder itself; its ancestors are not looked at.
        or_sticky: Whether a sticky folder is good, though others write in it.

    Raises:
        OSError: There is no such file, or it cannot be looked at.
    """
    if os.name != "posix":
        return False  # Owner and mode mean nothing.
    about = path.stat()
    writable = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    excused = or_sticky and about.st_mode & stat.S_ISVTX
    return about.st_uid in (0, os.geteuid()) and (not writable or bool(excused))


@contextmanager
def workshop(parent: Path) -> Iterator[Path]:
    """Make a private folder that is removed in the end, and remove those that a kill has left.

    Args:
        parent: Where to make it.

    Raises:
        OSError: It cannot be made.
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
    """Return where the system has users' caches."""
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # Its specification has relative paths ignored.
        folder = folder if folder.is_absolute() else Path.home() / ".cache"
    if not folder.is_absolute():
        raise RuntimeError(f"HOME must be an absolute path, got {os.environ.get('HOME')!r}")
    return folder
