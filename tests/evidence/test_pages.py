"""The numbers of the pages are those of the result files."""

import re

import pytest

from evidence.command import DOCS
from evidence.show.pages import NOTHING, PART, Parts
from evidence.store import RESULTS

PAGES = [DOCS / "evidence.md", *sorted((DOCS / "evidence").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_generated_parts_are_as_the_result_files_have_them(page, tmp_path):
    parts = Parts(RESULTS, tmp_path)
    if page.name == "evidence.md":
        parts.prefix = "evidence/figures"
    for match in PART.finditer(page.read_text(encoding="utf-8")):
        assert match[0] == f"{match[1]}\n{parts(match['name'])}\n\n{match[3]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_have_both_variants_and_an_alternative(page):
    text = page.read_text(encoding="utf-8")
    images = re.findall(r"```\{image\} (\S+)\n:class: only-(light|dark)\n:alt: (.+)\n", text)
    for path, variant, alt in images:
        assert path.endswith(f"-{variant}.svg")
        assert (page.parent / path).exists()
        assert len(alt) > 40


def test_what_has_not_been_run_is_said(tmp_path):
    parts = Parts(tmp_path, tmp_path)
    for name in ("study: images", "stability", "mechanism: ode", "long: heat", "verdicts: AdamW"):
        assert parts(name) == NOTHING
