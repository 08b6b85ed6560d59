"""What the C kernel does when built by every compiler that is there.

A row a compiler: whether the suite's family "precision" is followed, by dtype, by a kernel that
it alone has built. For a machine with another processor the kernel is built too, and run in an
emulator, if there is one, and compared with this machine's, bit by bit.
`python benchmarks/compilers.py [COMPILER ...]`, from the root of the repository.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from innaprop.forms import kernel
from innaprop.forms.library import FLAGS
from innaprop_conformance.results import read_results
from innaprop_core.momentum import coefficients

NATIVE = [*(f"gcc-{n}" for n in range(9, 16)), *(f"clang-{n}" for n in range(11, 23))]
CROSS = ["aarch64-linux-gnu-gcc", *(f"aarch64-linux-gnu-gcc-{n}" for n in range(9, 16))]
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
SYSROOT = "/usr/aarch64-linux-gnu"
COLUMNS = {
    "float32": ("torch-fused", "float32"),
    "float64": ("torch-fused", "float64"),
    "bfloat16": ("torch-fused", "bfloat16"),
    "float16": ("torch-fused", "float16"),
    "bfloat16 and residual": ("torch-fused", "bfloat16+residual"),
    "float16 and residual": ("torch-fused", "float16+residual"),
}
KERNEL = kernel.SOURCE
DRIVER = Path(__file__).with_name("other_machine.c")
VALUES = coefficients(2, gamma=1e-2, alpha=0.1, beta=0.9, sigma=0.99, eps=1e-8, weight_decay=0.1)


def followed(compiler: str, folder: Path) -> list[str]:
    """Return for each column what the suite says of a kernel that a compiler has built."""
    # No other compiler is there: ``library.load`` would go on to it.
    tools = folder / "tools"
    tools.mkdir()
    for name, target in {"cc": compiler, "as": "as", "ld": "ld"}.items():
        (tools / name).symlink_to(str(shutil.which(target)))
    environment = {
        **os.environ,
        "CC": str(shutil.which(compiler)),
        "PATH": str(tools),
        "INNAPROP_CACHE": str(folder / "cache"),
    }
    load = "from innaprop.forms import c; k = c.load(); print(k if isinstance(k, str) else '')"
    if reason := run([sys.executable, "-c", load], env=environment).strip():
        return [f"[red]{reason}"] + ["not available"] * (len(COLUMNS) - 1)
    names = {backend for backend, _ in COLUMNS.values()}
    command = [sys.executable, "-m", "innaprop_conformance", "run", "--family", "precision"]
    command += ["--json", str(folder / "results.json")]
    command += [word for name in sorted(names) for word in ("--backend", name)]
    run(command, env=environment, check=False)
    results = read_results(folder / "results.json").conformance
    found = {(result.backend, result.dtype): result for result in results}
    return [
        "not available" if key not in found else "passed" if found[key].passed else "[red]failed"
        for key in COLUMNS.values()
    ]


def run(command: list[str], env=None, check=True) -> str:
    return subprocess.run(command, env=env, check=check, stdout=subprocess.PIPE, text=True).stdout


def outputs(compiler: str, folder: Path, *emulator: str) -> list[list[int]]:
    """Return the bits that a compiler's kernel makes of a row of every column's kind.

    Nothing, if the program is built but its emulator is not there.
    """
    scalars = " ".join(f"X({name})" for name in kernel.SCALARS)
    library, program = folder / f"{compiler}.so", folder / compiler
    define = f"-DCOEFFICIENTS={scalars}"
    run([compiler, *FLAGS, "-fopenmp", define, str(KERNEL), "-o", str(library), "-lm"])
    values = ",".join(map(repr, (*VALUES, 1.0)))
    command = [compiler, f"-DVALUES={values}", str(DRIVER), str(library), "-o", str(program)]
    run([*command, f"-Wl,-rpath,{folder}"])
    if emulator and not shutil.which(emulator[0]):
        return []
    lines = run([*emulator, str(program)]).splitlines()
    return [[int(bits) for bits in line.split()] for line in lines]


def compared(compiler: str, folder: Path) -> list[str]:
    """Return for each column how far another machine's kernel is from this one's."""
    emulator = next(filter(shutil.which, EMULATORS), EMULATORS[0])
    try:
        theirs = outputs(compiler, folder, emulator, "-L", SYSROOT)
    except subprocess.CalledProcessError as error:
        return [f"[red]{error}"] + ["not available"] * (len(COLUMNS) - 1)
    if not theirs:
        return ["built"] * len(COLUMNS)
    return [distance(a, b) for a, b in zip(theirs, outputs("cc", folder), strict=True)]


def distance(a: list[int], b: list[int]) -> str:
    """Return how many numbers differ, and by how much, of those whose bits are given."""
    ulps = [abs(x - y) for x, y in zip(a, b, strict=True)]
    if not any(ulps):
        return "same bits"
    text = f"{sum(map(bool, ulps))} of {len(ulps)} differ, by {max(ulps)} ulp"
    return text if max(ulps) == 1 else f"[red]{text}"


def main() -> None:
    asked = sys.argv[1:] or [*NATIVE, *CROSS]
    table = Table(Column("compiler", no_wrap=True), *COLUMNS)
    for compiler in filter(shutil.which, asked):
        with tempfile.TemporaryDirectory() as folder:
            judge = compared if compiler in CROSS else followed
            table.add_row(compiler, *judge(compiler, Path(folder)))
    console = Console()
    console.print(table)
    absent = [compiler for compiler in asked if not shutil.which(compiler)]
    console.print(f"not on this machine: {', '.join(absent) or 'none'}")


if __name__ == "__main__":
    main()
