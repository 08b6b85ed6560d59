"""Images in memory: uint8, one split a pair of arrays, ready for batches on any device."""

import gzip
import pickle
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

VALIDATION = 5_000
"""Images that are taken from the end of the training set to choose by."""


class Images(NamedTuple):
    """A split: ``pixels`` of shape (images, channels, height, width), ``labels`` of int64."""

    pixels: Tensor
    labels: Tensor

    def only(self, classes: tuple[int, ...]) -> "Images":
        """Return the images of some classes, numbered from 0 in their order."""
        chosen = torch.isin(self.labels, torch.tensor(classes))
        number = torch.full((int(self.labels.max()) + 1,), -1)
        number[list(classes)] = torch.arange(len(classes))
        return Images(self.pixels[chosen], number[self.labels[chosen]])


class Splits(NamedTuple):
    """What is learnt from, chosen by, and reported on."""

    train: Images
    validation: Images
    test: Images


@lru_cache(maxsize=4)
def load_images(name: str, folder: Path, *, side: int = 28) -> Splits:
    """Return a data set with images of ``side`` by ``side``.

    Args:
        name: ``fashion-mnist``, ``cifar-10`` or ``food-101``.
        folder: Where its files lie, as they are distributed.
        side: Smaller than the images, it halves them by means of four pixels until they fit;
            larger, it pads with zeros.
    """
    train, test = READERS[name](folder)
    train, test = (Images(fit(pixels, side), labels) for pixels, labels in (train, test))
    held = min(VALIDATION, len(train.labels) // 6)
    return Splits(
        Images(train.pixels[:-held], train.labels[:-held]),
        Images(train.pixels[-held:], train.labels[-held:]),
        test,
    )


def fit(pixels: Tensor, side: int) -> Tensor:
    """Return images of ``side`` by ``side``."""
    while pixels.shape[-1] >= 2 * side:
        means = torch.nn.functional.avg_pool2d(pixels.float(), 2)
        pixels = means.round().to(torch.uint8)
    missing = side - pixels.shape[-1]
    if missing < 0:
        raise ValueError(f"side must be {pixels.shape[-1]} or its half, got {side}")
    before, after = missing // 2, missing - missing // 2
    return torch.nn.functional.pad(pixels, (before, after, before, after))


def _idx(path: Path) -> np.ndarray:
    """Read a file of the MNIST format: a magic number, the shape, the bytes."""
    raw = gzip.decompress(path.read_bytes())
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">i4", dimensions, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _fashion(folder: Path) -> tuple[Images, Images]:
    train, test = (
        Images(
            torch.from_numpy(_idx(folder / f"{part}-images-idx3-ubyte.gz").copy()).unsqueeze(1),
            torch.from_numpy(_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)),
        )
        for part in ("train", "t10k")
    )
    return train, test


def _cifar(folder: Path) -> tuple[Images, Images]:
    """Read the Python version of CIFAR-10, whose batches are pickles."""

    def read(names: list[str]) -> Images:
        pixels, labels = [], []
        for name in names:
            with (folder / "cifar-10-batches-py" / name).open("rb") as file:
                batch = pickle.load(file, encoding="bytes")
            pixels.append(np.asarray(batch[b"data"]).reshape(-1, 3, 32, 32))
            labels.extend(batch[b"labels"])
        return Images(torch.from_numpy(np.concatenate(pixels)), torch.tensor(labels))

    return read([f"data_batch_{i}" for i in range(1, 6)]), read(["test_batch"])


def _food(folder: Path) -> tuple[Images, Images]:
    """Read Food101: photographs of 101 dishes, whose shorter side becomes 64, cut in the middle."""
    from PIL import Image

    root = folder / "food-101"
    dishes = (root / "meta/classes.txt").read_text(encoding="utf-8").split()

    def read(split: str) -> Images:
        names = (root / f"meta/{split}.txt").read_text(encoding="utf-8").split()
        pixels = np.empty((len(names), 3, 64, 64), np.uint8)
        for i, name in enumerate(names):
            with Image.open(root / f"images/{name}.jpg") as image:
                half = min(image.size) // 2
                x, y = image.width // 2, image.height // 2
                square = image.convert("RGB").crop((x - half, y - half, x + half, y + half))
                pixels[i] = np.asarray(square.resize((64, 64))).transpose(2, 0, 1)
        labels = [dishes.index(name.split("/")[0]) for name in names]
        return Images(torch.from_numpy(pixels), torch.tensor(labels))

    return read("train"), read("test")


READERS: dict[str, Callable[[Path], tuple[Images, Images]]] = {
    "fashion-mnist": _fashion,
    "cifar-10": _cifar,
    "food-101": _food,
}
