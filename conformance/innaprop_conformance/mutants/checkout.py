"""A copy of the checkout, in which tests run on a mutant."""

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
    """The result of a run of tests."""

    code: int | None
    """Exit code of pytest; None if it was killed."""
    failed: list[str]
    """Names of the tests that failed."""
    output: str
    """The end of its output."""

    @property
    def passed(self) -> bool:
        """Whether no test failed; also if no test was selected."""
        return self.code in (0, 5)


class Checkout:
    """A copy of all files that git tracks or does not ignore; a context manager that removes it.

    Args:
        root: Folder of the checkout, from which the packages are imported.
        packages: Folders of the packages to mutate, by name.

    Raises:
        ValueError: A package is not imported from the checkout.
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
        """For ``PYTHONPATH``, so that tests and their processes import from the copy."""
        self._check_imports()

    def of(self, place: Path) -> Path:
        """Return the path of the copy of a file or folder.

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
            files: Paths relative to the checkout.
            environment: Environment variables to set.
            seconds: Time after which the run is killed, with all its processes.
            left_out: Names of tests to deselect.
            options: Further options of pytest.
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
                    # Also kills processes that a failed test has left.
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                output.seek(0)
                text = output.read().decode(errors="replace")
            return Ran(code, failed.read_text(encoding="utf-8").splitlines(), text[-4000:])

    def seed(self, mutant: Mutant) -> None:
        """Apply a mutant to the copy."""
        path = path_of(mutant.file)
        text = apply(path.read_text(encoding="utf-8"), mutant.change)
        self.of(path).write_text(text, encoding="utf-8")

    def heal(self, mutant: Mutant) -> None:
        """Restore the file that a mutant has changed."""
        path = path_of(mutant.file)
        shutil.copy(path, self.of(path))

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        # Python validates bytecode by the source's size and time in seconds, which mutants share.
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
