"""Generated parts of documentation pages."""

from collections.abc import Sequence
from pathlib import Path

from innaprop_conformance.files import write_whole


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def marks(name: str) -> tuple[str, str]:
    """Return the marker lines at the beginning and the end of a generated part."""
    return f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->\n"


def write_part(page: Path, name: str, text: str) -> None:
    """Replace the text between two markers of a page; the write is atomic.

    Args:
        page: A file with the lines ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``.
        name: NAME.
        text: The new text between them.

    Raises:
        OSError: The page cannot be read or written.
        ValueError: A marker is missing, is there twice, or the end comes before the beginning.
    """
    whole = page.read_text(encoding="utf-8")
    begin, end = marks(name)
    if [whole.count(begin), whole.count(end)] != [1, 1] or whole.index(begin) > whole.index(end):
        raise ValueError(
            f"{page} must have one line {begin.strip()} and, after it, one line {end.strip()}"
        )
    before, _, rest = whole.partition(begin)
    write_whole(page, f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
