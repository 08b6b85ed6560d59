import json
import os
import subprocess
import sys

import pytest

from .pages import ROOT, blocks, pages

# Blocks keep the line numbers of their page, so that a traceback points into it.
RUN = """
import json, sys
page, blocks = json.load(sys.stdin)
names = {"__name__": "__main__"}
for code, line in blocks:
    exec(compile("\\n" * line + code, page, "exec"), names)
"""


def _python(page):
    return [block for block in blocks(page) if block.language == "python"]


OF_THEIR_OWN = "docs/integrations.md"
"""A page whose blocks need processes and libraries of their own: tests/integrations runs them."""


@pytest.mark.parametrize(
    "page", [page for page in pages() if _python(page) and page != OF_THEIR_OWN]
)
def test_python_blocks_run(page, tmp_path):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("KERAS_BACKEND", None)
    process = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([str(ROOT / page), [(b.code, b.line) for b in _python(page)]]),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, f"{page}:\n{process.stderr}"


@pytest.mark.parametrize("page", ["start", "practice", "algorithm"])
def test_the_page_shows_code(page):
    assert _python(f"docs/{page}.md")


@pytest.mark.parametrize("page", pages())
def test_every_block_is_run_or_says_that_it_is_not_python(page):
    others = {block.language for block in blocks(page)} - {
        "python",
        "console",
        "diff",
        "text",
        "toml",
    }
    assert [language for language in others if not language.startswith("{")] == []
