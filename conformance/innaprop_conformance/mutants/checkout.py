"""A copy of the checkout, in which a mutant stands and tests run."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from innaprop_conformance.mutants import plugin
from innaprop_conformance.mutants.mutant import Mutant, path_of
from innaprop_conformance.mutants.operators import apply

_PYTEST = ("-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-p")


@dataclass(frozen=True)
class Ran:
    """What came of a run of tests."""

    code: int | None
    """Exit code of pytest; None if it was ended."""
    failed: list[str]
    """Names of the tests that failed."""
    output: str
    """What it printed last."""

    @property
    def passed(self) -> bool:
        """Whether no test failed; it is no failure if none was chosen."""
        return self.code in (0, 5)


class Checkout:
    """A copy of the files that git knows or would take; a context that removes it.

    Args:
        root: Folder of the checkout, which the packages are imported from.
        packages: Folders of the packages that are mutated, by name.

    Raises:
        ValueError: A package is not imported from there.
    """

    def __init__(self, root: Path, packages: Mapping[str, Path]) -> None:
        self._holder = tempfile.TemporaryDirectory()
        self.root = root.resolve()
        self.copy = Path(self._holder.name).resolve() / "checkout"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(listed, cwd=root, check=True, capture_output=True, text=True)
        for name in filter(None, done.stdout.split("\0")):
            if (self.root / name).is_file():
                (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.root / name, self.copy / name)
        self.packages = {name: self.of(place) for name, place in packages.items()}
        folders = dict.fromkeys(str(place.parent) for place in self.packages.values())
        conformance = self.of(Path(__file__).parents[2])
        self.path = os.pathsep.join([*folders, str(conformance)])
        """For ``PYTHONPATH``: all is imported from the copy, by processes of tests too."""
        self._check_imports()

    def of(self, place: Path) -> Path:
        """Return where the copy of a file or folder is.

        Raises:
            ValueError: It is not in the checkout.
        """
        place = place.resolve()
        if not place.is_relative_to(self.root):
            raise ValueError(f"{place} must be in the checkout {self.root}: run it from there")
        return self.copy / place.relative_to(self.root)

    def run(
        self,
        files: Sequence[str],
        environment: Mapping[str, str],
        seconds: float,
        left_out: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> Ran:
        """Run test files.

        Args:
            files: Below the checkout.
            environment: Variables to set.
            seconds: After which the run is ended, with all its processes.
            left_out: Names of tests that are not run.
            options: More of pytest's.
        """
        with tempfile.TemporaryDirectory() as folder:
            failed, gone = Path(folder, "failed"), Path(folder, "left_out")
            failed.touch()
            gone.write_text("".join(f"{name}\n" for name in left_out), encoding="utf-8")
            variables = {
                plugin.FAILED: str(failed),
                plugin.LEFT_OUT: str(gone),
                "INNAPROP_CACHE": str(self.copy.parent / "cache"),
                **self._environment(environment),
            }
            command = [sys.executable, *_PYTEST, plugin.__name__, *options, *files]
            with open(Path(folder, "output"), "w+b") as output:
                process = subprocess.Popen(
                    command,
                    cwd=self.copy,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                code: int | None
                try:
                    code = process.wait(seconds)
                except subprocess.TimeoutExpired:
                    code = None
                finally:
                    # Processes of tests too, which a failed test may have left.
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                output.seek(0)
                text = output.read().decode(errors="replace")
            return Ran(code, failed.read_text(encoding="utf-8").splitlines(), text[-4000:])

    def seed(self, mutant: Mutant) -> None:
        """Put a mutant into the copy."""
        path = path_of(mutant.file)
        text = apply(path.read_text(encoding="utf-8"), mutant.change)
        self.of(path).write_text(text, encoding="utf-8")

    def heal(self, mutant: Mutant) -> None:
        """Take a mutant out again."""
        path = path_of(mutant.file)
        shutil.copy(path, self.of(path))

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        # Bytecode is taken for a source's by size and second: mutants are often alike in both.
        own = {"PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1"}
        return {**os.environ, **own, **environment}

    def _check_imports(self) -> None:
        code = "import importlib, sys\n" + "".join(
            f"print(importlib.import_module({name!r}).__path__[0])\n" for name in self.packages
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.copy,
            env=self._environment({}),
            capture_output=True,
            text=True,
        )
        found = [Path(line).resolve() for line in done.stdout.splitlines()]
        if found != list(self.packages.values()):
            raise ValueError(f"packages must be imported from {self.copy}, got {found}")

    def __enter__(self) -> "Checkout":
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.cleanup()
