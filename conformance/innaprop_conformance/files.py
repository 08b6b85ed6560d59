"""Atomic writes of text files."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file atomically: readers see the old content or the new, never a part.

    Args:
        path: File to write.
        text: Its content, written as UTF-8.

    Raises:
        OSError: The file cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.resolve().parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes files readable by their owner only.
        os.chmod(name, 0o644)
        os.replace(name, path.resolve())
    except BaseException:
        os.unlink(name)
        raise
