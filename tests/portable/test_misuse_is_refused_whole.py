"""What cannot be loaded is refused with a reason, and nothing has changed then."""

import hashlib
import json
import os
import pickle
import stat

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import innaprop
from innaprop_core import INNAprop


def rewritten(path, change):
    """Change arrays and header of a file by hand."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["innaprop-state"])
    del header["sha256"]
    change(arrays, header)
    save_file(arrays, path, metadata={"innaprop-state": sealed(arrays, header)})


def sealed(arrays, header):
    """Return the header with the digests that docs/moving.md describes."""
    parameters = header["parameters"]
    if isinstance(parameters, dict):
        for entry in parameters.values():
            entry["sha256"] = {}
        for key, array in arrays.items():
            name, _, what = key.rpartition(".")
            if name in parameters:
                parameters[name]["sha256"][what] = digest(array.tobytes())
    text = json.dumps(header)
    return text[:-1] + f', "sha256": "{digest(text.encode())}"' + "}"


def digest(content):
    return hashlib.sha256(content).hexdigest()


def by_hand(change):
    return lambda path: rewritten(path, change)


def header(**entries):
    return by_hand(lambda arrays, header: header.update(entries))


def entry(**entries):
    return by_hand(lambda arrays, header: header["parameters"]["p1"].update(entries))


def arrays(**given):
    return by_hand(
        lambda arrays, header: arrays.update({k.replace("__", "."): v for k, v in given.items()})
    )


def spoiled(key, value):
    def change(arrays, header):
        arrays[key].flat[1] = value

    return by_hand(change)


def without(key):
    return by_hand(lambda arrays, header: arrays.pop(key))


def renamed(arrays, header):
    for what in ("momentum", "second_moment", "psi"):
        arrays[f"q.{what}"] = arrays.pop(f"p1.{what}")
    header["parameters"]["q"] = header["parameters"].pop("p1")


def transposed(arrays, header):
    for what in ("momentum", "second_moment", "psi"):
        arrays[f"p0.{what}"] = np.array(arrays[f"p0.{what}"].T, order="C")


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def of_weights(path):
    save_file({"p0": np.zeros((3, 4))}, path, metadata={"format": "pt"})


def no_json(path):
    save_file({"p0": np.zeros((3, 4))}, path, metadata={"innaprop-state": "{"})


def nested(path):
    content = '{"version": 2, "parameters": ' + "[" * 100_000 + "]" * 100_000 + "}"
    save_file({"p0": np.zeros((3, 4))}, path, metadata={"innaprop-state": content})


def pickled(path):
    path.write_bytes(pickle.dumps({"p0": [1.0]}))


FILES = {
    "cut off": (cut, "must be a safetensors file and whole"),
    "empty": (lambda path: path.write_bytes(b""), "must be a safetensors file and whole"),
    "a pickle": (pickled, "must be a safetensors file and whole"),
    "of weights": (of_weights, "must have the entry 'innaprop-state', .* got 'format'"),
    "no JSON": (no_json, "Expecting property name"),
    "nested without end": (nested, "the header's JSON must not be nested so deep"),
    "a newer version": (header(version=3), "version must be 2 at most, got 3"),
    "a version below all": (header(version=-5), "version must be from 1 to 2, got -5"),
    "version 0": (header(version=0), "version must be from 1 to 2, got 0"),
    "version true": (header(version=True), "must be an object with an integer 'version'"),
    "no version": (header(version="new"), "must be an object with an integer 'version'"),
    "no iterations": (header(iterations=None), "iterations must be an integer, got None"),
    "negative iterations": (header(iterations=-1), r"iterations must be in \[0, 2\*\*31\), got -1"),
    "too few iterations": (header(iterations=5), "iterations must be 6 at least"),
    "no object": (header(parameters=[1]), "'parameters' must be an object of objects"),
    "no parameters": (header(parameters={}), "every array must belong to a parameter, got 'p0"),
    "an unknown entry": (entry(trust=1.0), "the header must say .* of 'p1', got"),
    "an unknown dtype": (entry(dtype="float8"), "dtype of 'p1' must be one of float32"),
    "a negative step": (entry(step=-1), r"step of 'p1' must be in \[0, 2\*\*31\), got -1"),
    "half a step": (entry(step=1.5), "step of 'p1' must be an integer, got 1.5"),
    "beta = 0": (entry(beta=0), "hyperparameters of 'p1': beta must be a finite number > 0"),
    "alpha a string": (entry(alpha="x"), "hyperparameters of 'p1': alpha must be a finite"),
    "gamma = beta": (entry(gamma=0.9), "gamma must be smaller than beta"),
    "no momentum": (without("p1.momentum"), "p1.momentum is missing"),
    "a foreign array": (arrays(x=np.zeros(1)), "every array must belong to a parameter, got 'x'"),
    "integers": (
        arrays(p1__momentum=np.zeros(5, np.int64)),
        "p1.momentum must be of F32, F64, I16, got I64",
    ),
    "half of the digits": (
        arrays(p1__momentum=np.zeros(5, np.float64)),
        r"momentum of 'p1' must be float32 of shape \(5,\), got float64|"
        r"second_moment of 'p1' must be float32",
    ),
    "another shape": (
        arrays(p1__second_moment=np.zeros(4, np.float32)),
        r"second_moment of 'p1' must be float32 of shape \(5,\), got float32 of shape \(4,\)",
    ),
    "a residual": (
        arrays(p1__residual=np.zeros(5, np.int16)),
        "residual of 'p1' must be left out, since the parameter is float32",
    ),
    "NaN": (spoiled("p1.momentum", np.nan), "momentum of 'p1' must be finite, got nan"),
    "infinity": (spoiled("p1.psi", np.inf), "psi of 'p1' must be finite, got inf"),
    "a negative second moment": (
        spoiled("p1.second_moment", -1),
        "second_moment of 'p1' must not be negative, got -1.0",
    ),
    "other names": (
        by_hand(renamed),
        "it has nothing for 'p1'; the optimizer has no 'q'; names={their name: name here}",
    ),
    "another layout": (
        by_hand(transposed),
        r"'p0' must have shape \(3, 4\), got \(4, 3\); transposes={'p0': axes}",
    ),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_not_right(file, untouched, path):
    spoil, message = FILES[file]
    one = untouched
    before = one.saved(path)
    spoil(path)
    with pytest.raises(ValueError, match=message):
        one.loop.load(path)
    assert one.saved(path.with_name("after")) == before


def test_a_file_that_is_not_there(untouched, path):
    with pytest.raises(FileNotFoundError):
        untouched.loop.load(path)


def test_counts_that_differ_where_there_is_one_for_all(name, trained, path):
    one = trained(name)
    before = one.saved(path)
    entry(step=4)(path)
    if name in ("torch", "tensorflow"):
        one.loop.load(path)
        one.loop.save(path)
        steps = {key: state.step for key, state in innaprop.read_state(path).parameters.items()}
        assert steps == {"p0": 6, "p1": 4, "p2": 6, "p3": 6}
        return
    with pytest.raises(ValueError, match="must be equal, got 6 for 'p0' and 4 for 'p1'"):
        one.loop.load(path)
    assert one.saved(path.with_name("after")) == before


def test_calls_that_not_all_parameters_were_part_of(name, trained, path):
    one = trained(name)
    one.saved(path)
    header(iterations=9)(path)
    if name in ("torch", "tensorflow"):
        one.loop.load(path)
        return
    with pytest.raises(ValueError, match="must be equal, got 6 for 'p0' and 9 for 'all calls"):
        one.loop.load(path)


def test_hyperparameters_that_differ_where_there_is_one_for_all(untouched, path):
    one = untouched
    before = one.saved(path)
    entry(sigma=0.5)(path)
    with pytest.raises(ValueError, match=r"sigma must be the same .* 0\.999 for 'p0' and 0\.5 for"):
        one.loop.load(path)
    assert one.saved(path.with_name("after")) == before


def test_numbers_that_float32_does_not_hold(name, trained, path):
    one = trained(name, "float64")
    one.saved(path)
    spoiled("p1.second_moment", 1e39)(path)
    narrow = trained(name, "float32")
    before = narrow.saved(path.with_name("before"))
    with pytest.raises(ValueError, match="second_moment of 'p1' must be in the range of float32"):
        narrow.loop.load(path)
    assert narrow.saved(path.with_name("after")) == before


def test_float64_is_cast(name, trained, path):
    trained(name, "float64").saved(path)
    narrow = trained(name, "float32")
    narrow.loop.load(path)
    narrow.loop.save(path.with_name("narrow"))
    wide = innaprop.read_state(path).parameters["p0"]
    cast = innaprop.read_state(path.with_name("narrow")).parameters["p0"]
    assert cast.dtype == "float32"
    np.testing.assert_array_equal(cast.momentum, wide.momentum.astype(np.float32))


class InBytes:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return bytes(self.path)


NO_TEXT = {
    "bytes": lambda path: bytes(path),
    "an open file": lambda path: path.open("rb"),
    "a descriptor": lambda path: 3,
    "None": lambda path: None,
    "a path in bytes": lambda path: InBytes(path),
}


@pytest.mark.parametrize("kind", NO_TEXT)
def test_a_path_that_is_not_of_text(kind, path):
    optimizer = INNAprop([np.ones(2)])
    innaprop.save_state(path, optimizer)
    before = path.read_bytes()
    given = NO_TEXT[kind](path)
    for call in (
        lambda: innaprop.save_state(given, optimizer),
        lambda: innaprop.load_state(given, optimizer),
        lambda: innaprop.read_state(given),
    ):
        with pytest.raises(
            TypeError, match=r"path must be a string or an os\.PathLike of one, got"
        ):
            call()
    assert path.read_bytes() == before
    if hasattr(given, "close"):
        given.close()


def socket_at(path):
    """Make a socket: nobody misses it if it is replaced, as a device of the system would be."""
    os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkdir, "a folder"),
        (os.mkfifo, "a regular file, got a FIFO"),
        (socket_at, "a regular file, got a socket"),
    ],
    ids=["folder", "FIFO", "socket"],
)
def test_a_path_that_is_of_no_file(make, kind, path):
    optimizer = INNAprop([np.ones(2)])
    make(path)
    before = path.lstat()
    for call in (
        lambda: innaprop.save_state(path, optimizer),
        lambda: innaprop.load_state(path, optimizer),
        lambda: innaprop.read_state(path),
    ):
        with pytest.raises(OSError, match=f"path must be of .*{kind}"):
            call()
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert list(path.parent.iterdir()) == [path]


def test_a_name_that_is_no_unicode(path):
    with pytest.raises(ValueError, match="names of parameters must be valid Unicode"):
        innaprop.save_state(path, INNAprop([np.ones(2)]), ["\ud800"])
    assert not path.exists()


def test_a_header_longer_than_safetensors_reads(monkeypatch, path):
    monkeypatch.setattr("innaprop.portable.file._LONGEST_HEADER", 1000)
    innaprop.save_state(path, INNAprop([np.ones(2)]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="must fit 1,000 bytes, the longest header of a safetens"):
        innaprop.save_state(path, INNAprop([np.ones(2)]), ["n" * 1000])
    assert path.read_bytes() == before


def test_a_few_names_stand_for_many(path):
    optimizer = INNAprop([np.ones(1)] * 1000)
    for names in (["a"] * 999, [0] * 1000):
        with pytest.raises(ValueError, match="parameters must be 1000 names") as caught:
            innaprop.save_state(path, optimizer, names)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"names": {"q": "0"}}, ValueError, "names must be those of the state, '0', '1', got 'q'"),
        ({"names": {"0": "1"}}, ValueError, "its own name, got twice '1'"),
        ({"transposes": {"q": (0,)}}, ValueError, "must be of parameters of the optimizer, got"),
        ({"transposes": {"0": (0, 0)}}, ValueError, r"order of the axes \(0, 1\), got \(0, 0\)"),
        ({"transposes": {"0": (0,)}}, ValueError, r"order of the axes \(0, 1\), got \(0,\)"),
        ({"transposes": {"0": (1, 0)}}, ValueError, r"must have shape \(2, 3\), got \(3, 2\)"),
        ({"parameters": ["a"]}, ValueError, "parameters must be 2 names, one for each"),
        ({"parameters": ["a", "a"]}, ValueError, "must be unique, got 'a' more than once"),
    ],
)
def test_names_and_transposes_that_do_not_fit(options, error, message, path):
    optimizer = INNAprop([np.ones((2, 3)), np.ones(2)])
    optimizer.step([np.ones((2, 3)), np.ones(2)])
    innaprop.save_state(path, optimizer)
    optimizer.step([np.ones((2, 3)), np.ones(2)])
    momentum = optimizer.m[0].copy()
    with pytest.raises(error, match=message):
        innaprop.load_state(path, optimizer, **options)
    assert optimizer.k == 2
    np.testing.assert_array_equal(optimizer.m[0], momentum)


def test_what_is_no_optimizer_of_ours(path):
    import torch

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    for call in (innaprop.save_state, innaprop.load_state):
        with pytest.raises(TypeError, match=r"got one of torch.optim.adamw.AdamW"):
            call(path, optimizer)
    assert not path.exists()


def test_hyperparameters_are_for_optax(path):
    with pytest.raises(TypeError, match="hyperparameters must be None except for optax"):
        innaprop.save_state(path, INNAprop([np.ones(1)]), hyperparameters={"alpha": 1.0})


def test_a_run_that_has_failed_is_not_saved_over_the_last_good_state(name, trained, path):
    one = trained(name)
    before = one.saved(path)
    one.loop.step([np.full(s, np.nan, np.float32) for s in ((3, 4), (5,), (), (0, 2))], 1e-2)
    with pytest.raises(ValueError, match="of 'p0' must be finite, got nan"):
        one.loop.save(path)
    assert path.read_bytes() == before
