"""Runs the release checklist of ``docs/release.md``, except for the tag and the upload.

It builds the sdist, the pure wheel and this platform's wheel into ``dist``, and checks each in
temporary environments.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PACKAGES = {
    "innaprop_core": "innaprop_core",
    "innaprop": "adapters/innaprop",
    "innaprop_conformance": "conformance/innaprop_conformance",
}
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}
IMPORTS = {
    "torch": "import innaprop.torch",
    "tensorflow": "import innaprop.tensorflow",
    "keras,jax": "import innaprop.keras",
    "jax": "import innaprop, jax",
    "optax": "import innaprop.optax",
    "state": "import innaprop.portable.file, safetensors",
    "conformance": "from innaprop_conformance.cli import main",
    "all": "import innaprop.torch, innaprop.tensorflow, innaprop.keras, innaprop.optax",
}
"""The imports that each extra must make possible; Keras is tested with one of its backends."""


def run(*command: str | Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a command in the repository and return its output; exit if it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def tool(name: str, *arguments: str | Path) -> str:
    """Run a tool from this Python's folder, which is also first in its PATH."""
    tools = Path(sys.executable).parent
    return run(
        tools / name, *arguments, variables={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    )


class Environment:
    """A virtual environment that contains only pip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "environment"
        self.variables = {"INNAPROP_CACHE": str(folder / "cache"), "KERAS_BACKEND": "jax"}
        run(sys.executable, "-m", "venv", self.folder)
        self.pip("install", "--quiet", "-c", "constraints.txt", "--upgrade", "pip")

    def python(self, *arguments: str | Path, **variables: str) -> str:
        """Run its Python."""
        command = (self.folder / "bin" / "python", *arguments)
        return run(*command, variables=self.variables | variables)

    def pip(self, *arguments: str | Path, **variables: str) -> str:
        """Run its pip."""
        return self.python("-m", "pip", *arguments, **variables)

    def files(self) -> set[str]:
        """Return all paths in it."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


@contextmanager
def environment() -> Iterator[Environment]:
    """Return a context with a temporary environment."""
    with tempfile.TemporaryDirectory(prefix="innaprop-release-") as folder:
        yield Environment(Path(folder))


def say(text: str) -> None:
    """Print a line of progress with the time."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def agreed_version() -> str:
    """Return the version; exit if the files disagree, or if there are unreleased changes."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    if headings[0].partition("\n")[0] == "Unreleased" and "- " in headings.pop(0):
        sys.exit("CHANGELOG.md has unreleased changes: move them below the version's heading")
    newest = headings[0].partition("\n")[0].split()
    citation = (ROOT / "CITATION.cff").read_text()
    cited = dict(re.findall(r"^(version|date-released): *(\S+)$", citation, re.MULTILINE))
    if newest != [version, "-", cited["date-released"]] or cited["version"] != version:
        sys.exit(f"pyproject.toml has {version}, CHANGELOG.md {newest}, CITATION.cff {cited}")
    return version


def build() -> tuple[Path, list[Path]]:
    """Build into ``dist``; return the sdist and the wheels, with the pure wheel first."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST)
    (sdist,), (pure,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "-m", "build", "--wheel", "--outdir", folder)
        run(*command, variables={"INNAPROP_KERNEL": "1"})
        (built,) = Path(folder).iterdir()
        if sys.platform == "linux":
            tool("auditwheel", "repair", "--wheel-dir", DIST, built)
        else:
            shutil.copy(built, DIST)
    (platform,) = set(DIST.glob("*.whl")) - {pure}
    return sdist, [pure, platform]


def check_archives(sdist: Path, wheels: list[Path]) -> None:
    """Check metadata and contents, and print the files of each wheel."""
    tool("twine", "check", "--strict", sdist, *wheels)
    for wheel in wheels:
        # The kernel is loaded by ctypes and not imported, and a wheel has three top-level packages.
        options = ["--ignore", "W004,W009,W010" + (",W102" if wheel != wheels[0] else "")]
        toplevel = [*PACKAGES, *(["innaprop.libs"] if "manylinux" in wheel.name else [])]
        options += ["--toplevel", ",".join(toplevel)]
        for folder in PACKAGES.values():
            options += ["--package", folder]
        tool("check-wheel-contents", *options, wheel)
        with zipfile.ZipFile(wheel) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
        print(f"\n{wheel.name}: {len(files)} files, {wheel.stat().st_size / 1024:.0f} KiB")
        for entry in files:
            print(f"  {entry.file_size:>8}  {entry.filename}")
        folders = Counter(entry.filename.split("/")[0] for entry in files)
        print("  " + ", ".join(f"{folder} {count}" for folder, count in folders.items()) + "\n")
    say("twine and check-wheel-contents pass")


def check_bare(wheel: Path) -> None:
    """Install a wheel without a framework, use it, uninstall it; nothing may be left."""
    with environment() as bare:
        bare.pip("install", "--quiet", "-c", "constraints.txt", "numpy", "array-api-compat")
        # Write the bytecode of the dependencies now, so that it is not counted as left over.
        bare.python("-c", "import array_api_compat.numpy, numpy.testing")
        bare.pip("--version")
        before = bare.files()
        bare.pip("install", "--quiet", "--no-deps", wheel)
        bare.pip("check")
        if "none-any" in wheel.name:
            bare.python("-m", "innaprop", "--version")
        else:
            say(bare.python(ROOT / ".ci" / "kernel.py").strip())
        bare.python("-c", "from innaprop.forms import kernel; kernel.load()")
        bare.python("-m", "innaprop", "cache", "--clear")
        if Path(bare.variables["INNAPROP_CACHE"]).exists():
            sys.exit("innaprop cache --clear has left the cache")
        bare.pip("uninstall", "--quiet", "--yes", "innaprop")
        if left := sorted(path for path in bare.files() - before if "innaprop" in path):
            sys.exit(f"pip uninstall innaprop has left {left}")
    say(f"{wheel.name} is installed, used, and leaves nothing")


def check_sdist(sdist: Path) -> None:
    """Install the sdist without a compiler, neither in CC and CXX nor in PATH."""
    with environment() as bare:
        place = str(bare.folder / "bin")
        bare.pip("install", "--quiet", "-c", "constraints.txt", sdist, PATH=place, **NO_COMPILER)
        bare.pip("check")
        why = "from innaprop.forms import kernel; print(kernel.load())"
        reason = bare.python("-c", why, PATH=place, **NO_COMPILER).strip()
        if "CDLL" in reason:
            sys.exit("a compiler was found all the same")
    say(f"{sdist.name} is installed without a compiler: {reason}")


def check_extra(wheel: Path, extra: str) -> None:
    """Install one extra and import the modules that it is for."""
    with environment() as clean:
        clean.pip("install", "--quiet", "-c", "constraints.txt", f"{wheel}[{extra}]")
        clean.pip("check")
        clean.python("-W", "ignore", "-c", IMPORTS[extra])
        if extra == "torch" and "none-any" not in wheel.name:
            say(clean.python(ROOT / ".ci" / "kernel.py").strip())
        size = sum(path.stat().st_size for path in clean.folder.rglob("*") if path.is_file())
    say(f"innaprop[{extra}]: pip check and imports pass ({size / 2**30:.1f} GiB)")


def main() -> None:
    """Run the checklist."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("--extras", action="store_true", help="install every extra, one at a time")
    options = parser.parse_args()
    if changed := run("git", "status", "--porcelain"):
        sys.exit(f"commit or remove these first:\n{changed}")
    version = agreed_version()
    say(f"the tree is clean; pyproject.toml, CHANGELOG.md and CITATION.cff say {version}")
    sdist, wheels = build()
    say("built into dist")
    check_archives(sdist, wheels)
    for wheel in wheels:
        check_bare(wheel)
    check_sdist(sdist)
    for extra in IMPORTS if options.extras else ():
        check_extra(wheels[-1], extra)
    print(f"""
All checks pass. The remaining steps are manual:

  git tag --annotate v{version} --message "innaprop {version}"
  git push origin v{version}
  # The tag's workflow builds the wheels of the other platforms: put them into dist.
  twine check --strict dist/*
  twine upload dist/*
""")


if __name__ == "__main__":
    main()
