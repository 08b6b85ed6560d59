"""docs/integrations.md: every snippet runs, and every row of the table has one."""

import ast
import functools
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "integrations.md"
CONSTRAINTS = ROOT / "constraints.txt"
RUN = Path(__file__).with_name("run_block.py")
SECONDS = 600
"""What the processes of a snippet may take, whatever happens in them."""
TORCHRUN = re.compile(r"# torchrun --nproc-per-node (\d)")
PROCESSES = re.compile(r"# python train.py RANK PORT, (\d) processes")
NOT_RUN = ("not run", "not supported")
"""How the result of a row begins that was read or refused, and not run to an end."""


class Snippet(NamedTuple):
    section: str
    code: str
    line: int

    @property
    def missing(self):
        """The modules that it imports, and that are not installed."""
        modules = set()
        for node in ast.walk(ast.parse(self.code)):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
        tops = {name.partition(".")[0] for name in modules}
        return sorted(name for name in tops if find_spec(name) is None)

    @property
    def needs_a_gpu(self):
        """Whether it asks for a CUDA device by name."""
        return '"cuda"' in self.code


def snippets():
    found, section, tokens = [], "", MarkdownIt().parse(PAGE.read_text(encoding="utf-8"))
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open":
            section = following.content
        if token.type == "fence" and token.info.strip() == "python":
            found.append(Snippet(section, token.content, token.map[0] + 1))
    return found


def rows():
    """Return the cells of the table: library, version, what was run, result, snippet."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| library |"))
    cells = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells


SNIPPETS = snippets()


def commands(snippet):
    """Return the commands of the processes that a snippet's first line asks for."""
    run = [str(RUN), str(PAGE), str(snippet.line)]
    if started := TORCHRUN.match(snippet.code):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", started[1]]
        return [[sys.executable, *launcher, *run]]
    if started := PROCESSES.match(snippet.code):
        return [[sys.executable, *run, str(i), str(free_port())] for i in range(int(started[1]))]
    return [[sys.executable, *run]]


@functools.cache
def free_port():
    """Return a port that is free, as is the one after it."""
    while True:
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("localhost", 0))
            port = one.getsockname()[1]
            two.bind(("localhost", port + 1))
            return port


@pytest.mark.parametrize(
    "snippet", SNIPPETS, ids=[f"{s.section}-{s.line}".replace(" ", "_") for s in SNIPPETS]
)
def test_a_snippet_runs(snippet, tmp_path):
    if snippet.missing:
        pytest.skip(f"not installed: {', '.join(snippet.missing)}")
    if snippet.needs_a_gpu and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    free_port.cache_clear()
    processes, logs = [], []
    deadline = time.monotonic() + SECONDS
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("KERAS_BACKEND", None)
    try:
        for i, command in enumerate(commands(snippet)):
            logs.append(tmp_path / f"{i}.log")
            with logs[-1].open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=tmp_path, env=environment, stdout=log, stderr=log
                )
            processes.append(process)
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    text = "\n".join(log.read_text(errors="replace")[-6000:] for log in logs)
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(codes), f"{snippet.section}: exit codes {codes}\n{text}"


def anchor(section):
    """Return the anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", section.lower())
    return kept.replace(" ", "-")


def test_every_row_that_was_run_has_a_snippet_or_a_test():
    sections = {anchor(snippet.section) for snippet in SNIPPETS}
    for library, _, _, result, where in rows():
        if result.startswith("not run"):
            continue
        of_page = re.search(r"\(#([\w-]+)\)", where)
        of_tests = re.search(r"`(tests/[\w/]+\.py)`", where)
        assert of_page or of_tests, library
        if of_page:
            assert of_page[1] in sections, library
        if of_tests:
            assert (ROOT / of_tests[1]).is_file(), library


def test_every_section_with_a_snippet_has_a_row():
    table = "\n".join(row[4] for row in rows())
    for snippet in SNIPPETS:
        assert f"(#{anchor(snippet.section)})" in table, snippet.section


def test_the_versions_are_those_of_the_constraints():
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    pinned = {name.lower(): version for name, version in pinned.items()}
    names = {"pytorch": "torch", "hydra": "hydra-core", "orbax": "orbax-checkpoint"}
    compared = 0
    for library, version, *_ in rows():
        for name, number in zip(library.split(", "), version.split(", "), strict=True):
            key = names.get(name.lower(), name.lower())
            if key in pinned:
                assert number == pinned[key], name
                compared += 1
    assert compared >= 30


def test_thirty_rows_were_run():
    run = [row for row in rows() if not row[3].startswith(NOT_RUN)]
    assert len(run) >= 30
