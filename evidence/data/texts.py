"""Texts as bytes: a tensor of uint8, of which the end is kept for validation and test."""

import tarfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

HELD = 0.05
"""The share of a text that validation, and test, take each."""


class Text(NamedTuple):
    """What is learnt from, chosen by, and reported on."""

    train: Tensor
    validation: Tensor
    test: Tensor


@lru_cache(maxsize=4)
def load_text(name: str, folder: Path) -> Text:
    """Return a text.

    Args:
        name: ``python`` and ``kjv`` are what ``fetch`` puts there; ``e2e`` reads the lines
            (``meaning||sentence``) of ``e2e/*.txt``, ``openwebtext`` the archives
            ``openwebtext/*.xz``, each a tar of documents.
        folder: Where the files lie.
    """
    return split(_read(name, folder))


def split(raw: bytes) -> Text:
    """Return the parts of a text, in its order."""
    text = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    held = int(HELD * len(text))
    return Text(text[: -2 * held], text[-2 * held : -held], text[-held:])


def _read(name: str, folder: Path) -> bytes:
    if name in ("python", "kjv"):
        return (folder / f"{name}.txt").read_bytes()
    if name == "e2e":
        return b"\n".join(path.read_bytes() for path in sorted((folder / "e2e").glob("*.txt")))
    if name == "openwebtext":
        return b"\n".join(_archive(path) for path in sorted((folder / name).glob("*.xz")))
    raise ValueError(f"name must be python, kjv, e2e or openwebtext, got {name!r}")


def _archive(path: Path) -> bytes:
    documents = []
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                documents.append(file.read())
    return b"\n".join(documents)


def windows(text: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return the bytes from each start on, a row each, as int64."""
    return text[starts[:, None] + torch.arange(length, device=starts.device)].long()
