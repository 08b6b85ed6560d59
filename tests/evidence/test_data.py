"""Data sets are read as they are distributed, and split so that nothing is seen twice."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from evidence.data import fetch
from evidence.data.images import fit, load_images
from evidence.data.texts import load_text, split, windows


def test_fashion_mnist(data):
    found = load_images("fashion-mnist", data, side=28)
    assert found.train.pixels.shape == (500, 1, 28, 28)
    assert len(found.validation.labels) == 100
    assert len(found.test.labels) == 100
    # The fixture's brightness is the class.
    assert (found.test.pixels.float().mean((1, 2, 3)) - 19 * found.test.labels).abs().max() < 40


def test_cifar_10(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    whole = rng.integers(256, size=(6, 12, 3072), dtype=np.uint8)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name, batch in zip(names, whole, strict=True):
        content = {b"data": batch, b"labels": [*range(10), 0, 1]}
        (folder / name).write_bytes(pickle.dumps(content))
    found = load_images("cifar-10", tmp_path, side=32)
    assert found.train.pixels.shape == (50, 3, 32, 32)
    np.testing.assert_array_equal(found.test.pixels.numpy().reshape(12, -1), whole[5])
    # Red comes first, row by row.
    assert found.test.pixels[0, 1, 0, 3] == whole[5, 0, 1024 + 3]


def test_food_101(tmp_path):
    root = tmp_path / "food-101"
    (root / "meta").mkdir(parents=True)
    dishes = ["apple_pie", "waffles"]
    (root / "meta/classes.txt").write_text("\n".join(dishes))
    for part, count in (("train", 6), ("test", 2)):
        names = []
        for i in range(count):
            name = f"{dishes[i % 2]}/{part}{i}"
            names.append(name)
            path = root / f"images/{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (90, 70), (250 * (i % 2), 0, 0)).save(path)
        (root / f"meta/{part}.txt").write_text("\n".join(names))
    found = load_images("food-101", tmp_path, side=32)
    assert found.test.pixels.shape == (2, 3, 32, 32)
    assert found.test.labels.tolist() == [0, 1]
    assert found.test.pixels[1, 0].float().mean() > 200 > 20 > found.test.pixels[0].float().mean()


def test_openwebtext(tmp_path):
    folder = tmp_path / "openwebtext"
    folder.mkdir()
    with tarfile.open(folder / "urlsf_subset00-1_data.xz", "w:xz") as archive:
        for i in range(3):
            content = f"document {i} ".encode() * 50
            member = tarfile.TarInfo(f"{i}.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    text = load_text("openwebtext", tmp_path)
    assert bytes(text.train[:10].tolist()) == b"document 0"


def test_e2e(tmp_path):
    (tmp_path / "e2e").mkdir()
    lines = b"name : Blue Spice||A coffee shop called Blue Spice .\n" * 20
    (tmp_path / "e2e" / "test.txt").write_bytes(lines)
    assert bytes(load_text("e2e", tmp_path).train.tolist()).count(b"||") > 15


def test_some_classes_are_numbered_anew(data):
    only = load_images("fashion-mnist", data, side=28).train.only((7, 2))
    brightness = only.pixels.float().mean((1, 2, 3))
    assert set(only.labels.tolist()) == {0, 1}
    assert brightness[only.labels == 0].min() > brightness[only.labels == 1].max()


@pytest.mark.parametrize(("side", "shape"), [(14, 14), (28, 28), (32, 32)])
def test_images_are_halved_or_padded(side, shape):
    assert fit(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), side).shape[-2:] == (shape, shape)


def test_a_side_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="side must be 28 or its half, got 20"):
        fit(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), 20)


def test_the_parts_of_a_text_follow_one_another():
    raw = bytes(range(200))
    text = split(raw)
    assert [len(part) for part in text] == [180, 10, 10]
    assert bytes(torch.cat(text).tolist()) == raw


def test_windows_are_cut_where_they_start():
    rows = windows(torch.arange(100, dtype=torch.uint8), torch.tensor([0, 7]), 3)
    assert rows.tolist() == [[0, 1, 2], [7, 8, 9]]


def test_another_file_than_the_known_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"known")
    monkeypatch.setattr(fetch, "FASHION", {"a": hashlib.sha256(b"known").hexdigest()})
    monkeypatch.setattr(fetch, "KJV", hashlib.sha256(b"text").hexdigest())
    (tmp_path / "kjv.txt").write_bytes(b"text")
    fetch.check(tmp_path)
    (tmp_path / "kjv.txt").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"kjv\.txt has the SHA-256"):
        fetch.check(tmp_path)


def test_the_text_of_a_module_is_its_first_literal():
    assert (
        fetch.first_literal('x = """\nIn the beginning\n"""\ny = """no"""') == b"In the beginning"
    )
