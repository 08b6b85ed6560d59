"""The pages of the documentation, and the code blocks in them."""

from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Block(NamedTuple):
    language: str
    code: str
    line: int
    """Lines of the page before the code."""


def pages() -> list[str]:
    """Paths from the repository's root."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [str(page.relative_to(ROOT)) for page in found if DOCS / "_build" not in page.parents]


def blocks(page: str) -> list[Block]:
    tokens = MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8"))
    return [
        Block(token.info.strip(), token.content, token.map[0] + 1)
        for token in tokens
        if token.type == "fence"
    ]
