"""Mutation operators for C sources, which work on tokens."""

import re
from collections.abc import Iterator

from innaprop_conformance.mutants.operators import Change

_SIGNS = {
    " + ": " - ",
    " - ": " + ",
    " * ": " / ",
    " / ": " * ",
    " < ": " <= ",
    " <= ": " < ",
    " > ": " >= ",
    " >= ": " > ",
    " == ": " != ",
    " != ": " == ",
    " && ": " || ",
    " || ": " && ",
    " << ": " >> ",
    " >> ": " << ",
    " & ": " | ",
    " | ": " & ",
}
_SIGN = re.compile("|".join(map(re.escape, sorted(_SIGNS, key=len, reverse=True))))
_NUMBER = re.compile(r"(?<![\w.])(0x[0-9a-fA-F]+|\d+\.\d+|\d+)([uf]?)\b(?!\.)")
_DECLARED = "REAL |const |return |double |int|uint|float |else"
_STATEMENT = re.compile(rf"(?m)^ +(?!{_DECLARED})[^;{{}}()]+= [^;{{}}]+;")
_CONDITION = re.compile(r"\bif \(")
_CALL = re.compile(r"\b([a-z]\w+)\(([\w\[\]]+), ([\w\[\]]+)")
_MEMBER = re.compile(r"c->(\w+)")
_FUNCTION = re.compile(r"(?m)^(?:\w[\w *]* \**(\w+)\(|#define (DEFINE_\w+)\()")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"(?m)^#.*$")


def changes_in_c(text: str) -> list[Change]:
    """Return all changes of a C source, in source order; some may not compile.

    Args:
        text: The source. Bodies of macros are changed too; other preprocessor directives are not.
    """
    blank = _blanked(text)
    members = list(dict.fromkeys(_MEMBER.findall(blank)))
    found = [c for piece in _pieces(blank, members) if (c := _change(text, blank, *piece))]
    return sorted(dict.fromkeys(found), key=lambda change: change.line)


def _pieces(blank: str, members: list[str]) -> Iterator[tuple[str, int, int, str]]:
    """Yield changes as operator, start, end and replacement."""
    for match in _SIGN.finditer(blank):
        kind = "comparison" if match[0].strip()[0] in "<>=!" else "arithmetic"
        kind = "and and or" if match[0].strip() in ("&&", "||") else kind
        yield kind, *match.span(), _SIGNS[match[0]]
    for match in _NUMBER.finditer(blank):
        digits, suffix = match.groups()
        if "." in digits:
            yield "constant", *match.span(), f"{float(digits) * (1 + 1e-3) or 1e-3!r}{suffix}"
        else:
            value = int(digits, 0) + 1
            text = hex(value) if digits.startswith("0x") else str(value)
            yield "constant", *match.span(), f"{text}{suffix}"
    for match in _STATEMENT.finditer(blank):
        indent = re.match(r"\s*", match[0])
        assert indent is not None
        yield "statement deleted", match.start() + indent.end(), match.end(), ";"
    for match in _CONDITION.finditer(blank):
        yield "condition negated", *match.span(), "if (!"
    for match in _CALL.finditer(blank):
        name, one, two = match.groups()
        yield "arguments swapped", *match.span(), f"{name}({two}, {one}"
    for match in _MEMBER.finditer(blank):
        other = members[(members.index(match[1]) + 1) % len(members)]
        yield "other key", *match.span(), f"c->{other}"


def _change(text: str, blank: str, kind: str, start: int, end: int, other: str) -> Change | None:
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end) + 1
    line = text.count("\n", 0, first) + 1
    names = [match for match in _FUNCTION.finditer(blank) if match.start() <= start]
    function = (names[-1][1] or names[-1][2]) if names else ""
    if not function:
        return None
    old, new = text[first:last], text[first:start] + other + text[end:last]
    if kind == "condition negated":
        # Find the closing bracket of the condition.
        rest = text[end:last]
        depth = 1
        for i, sign in enumerate(rest):
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if depth == 0:
                new = f"{text[first:start]}if (!({rest[:i]})){rest[i + 1 :]}"
                break
    return Change(kind, function, frozenset({line}), line, old, new)


def _blanked(text: str) -> str:
    """Return a source with comments and directives replaced by spaces; offsets stay the same."""
    text = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    # The body of a macro follows on the next lines, after a backslash, and is kept.
    return _DIRECTIVE.sub(lambda m: m[0] if "DEFINE_" in m[0] else " " * len(m[0]), text)
