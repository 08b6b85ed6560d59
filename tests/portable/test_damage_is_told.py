"""A file that is not what was written is refused, and what is wrong in it is named."""

import json
import struct

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import innaprop
from innaprop_core import INNAprop


@pytest.fixture
def optimizer():
    one = INNAprop([np.ones((2, 3)), np.ones((), np.float32)])
    one.step([np.full((2, 3), 0.5), np.ones((), np.float32)])
    return one


@pytest.fixture
def written(path, optimizer):
    """The bytes of a good file."""
    innaprop.save_state(path, optimizer)
    return path.read_bytes()


def header_of(content):
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), 8 + length


def flipped(content, byte, bit):
    damaged = bytearray(content)
    damaged[byte] ^= 1 << bit
    return bytes(damaged)


def test_no_bit_turns_unseen(path, written):
    unseen = []
    for i in range(len(written)):
        path.write_bytes(flipped(written, i, i % 8))
        try:
            innaprop.read_state(path)
        except ValueError:
            continue
        unseen.append(i)
    assert unseen == []


@pytest.mark.parametrize("name", ["0", "1"])
@pytest.mark.parametrize("what", ["momentum", "second_moment", "psi"])
def test_the_array_that_is_damaged_is_named(name, what, path, written, optimizer):
    header, start = header_of(written)
    begin, end = header[f"{name}.{what}"]["data_offsets"]
    before = [x.copy() for x in (*optimizer.m, *optimizer.v)]
    for byte in range(start + begin, start + end):
        # The lowest bit: of a mantissa, but for the last byte.
        path.write_bytes(flipped(written, byte, 0))
        with pytest.raises(ValueError, match=f"{what} of '{name}' must have the sha256") as caught:
            innaprop.load_state(path, optimizer)
        assert str(path) in str(caught.value)
    for x, expected in zip((*optimizer.m, *optimizer.v), before, strict=True):
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("true", "false"),
    [(b"0.999", b"0.989"), (b'step\\": 1', b'step\\": 3'), (b"iterations", b"iterationz")],
)
def test_numbers_in_the_header_do_not_change_unseen(true, false, path, written):
    path.write_bytes(written.replace(true, false, 1))
    assert path.read_bytes() != written
    with pytest.raises(ValueError, match="the header must end with its sha256, and does not"):
        innaprop.read_state(path)


def entry(path):
    with safe_open(path, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["innaprop-state"]), arrays


def older(path):
    """Rewrite a file as version 1 of the format had it: without digests."""
    content, arrays = entry(path)
    del content["sha256"]
    content["version"] = 1
    for of_parameter in content["parameters"].values():
        del of_parameter["sha256"]
    return content, arrays


@pytest.mark.parametrize("says", [True, False])
def test_files_of_the_version_without_digests_are_read(says, path, written):
    expected = innaprop.read_state(path)
    content, arrays = older(path)
    if not says:
        for of_parameter in content["parameters"].values():
            del of_parameter["decay_momentum"]
    save_file(arrays, path, metadata={"innaprop-state": json.dumps(content)})
    found = innaprop.read_state(path)
    assert found.iterations == expected.iterations
    for name, state in expected.parameters.items():
        assert found.parameters[name].hyperparameters == state.hyperparameters
        for what, array in state.arrays().items():
            np.testing.assert_array_equal(found.parameters[name].arrays()[what], array)


def test_a_file_of_this_version_needs_its_digests(path, written):
    content, arrays = older(path)
    content["version"] = 2
    save_file(arrays, path, metadata={"innaprop-state": json.dumps(content)})
    with pytest.raises(ValueError, match="the header must end with its sha256, and does not"):
        innaprop.read_state(path)


def test_an_older_version_cannot_be_said_of_a_newer_file(path, written):
    content, arrays = entry(path)
    save_file(arrays, path, metadata={"innaprop-state": json.dumps({**content, "version": 1})})
    with pytest.raises(ValueError, match=r"the header must say .* of '0', got .*sha256"):
        innaprop.read_state(path)
