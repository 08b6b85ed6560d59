"""Small files in the formats of the real data."""

import gzip
import struct

import numpy as np
import pytest


def idx(array):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with images of ten classes that differ, and texts."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part, count in (("train", 600), ("t10k", 100)):
        labels = rng.integers(10, size=count)
        pixels = rng.integers(60, size=(count, 28, 28)) + 19 * labels[:, None, None]
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(pixels))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    (folder / "kjv.txt").write_bytes(b"In the beginning God created the heaven. " * 500)
    (folder / "python.txt").write_bytes(b"def f(x):\n    return x + 1\n" * 800)
    return folder


@pytest.fixture
def on_small_data(data, monkeypatch):
    monkeypatch.setattr("evidence.tasks.FOLDER", data)
