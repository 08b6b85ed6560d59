"""Mutation operators for Python sources.

They do not change docstrings, annotations, messages, ``raise`` statements and imports, nor code
that is not executed: ``TYPE_CHECKING`` blocks and overloads.
"""

import ast
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

_SWAPPED = {
    "Add": ("+", "-"),
    "Sub": ("-", "+"),
    "Mult": ("*", "/"),
    "Div": ("/", "*"),
    "FloorDiv": ("//", "*"),
    "Mod": ("%", "*"),
    "Pow": ("**", "*"),
    "BitAnd": ("&", "|"),
    "BitOr": ("|", "&"),
    "LShift": ("<<", ">>"),
    "RShift": (">>", "<<"),
    "Lt": ("<", "<="),
    "LtE": ("<=", "<"),
    "Gt": (">", ">="),
    "GtE": (">=", ">"),
    "Eq": ("==", "!="),
    "NotEq": ("!=", "=="),
    "Is": ("is", "is not"),
    "IsNot": ("is not", "is"),
    "In": ("in", "not in"),
    "NotIn": ("not in", "in"),
}
_OTHER_NAMES = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "any": "all",
    "all": "any",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "float32": "float64",
    "float64": "float32",
}
_COPIES = {"copy", "clone", "detach", "contiguous", "to", "astype", "cast"}
_CONSTRUCTORS = {"list", "dict", "tuple", "set", "float", "int", "bool", "deepcopy"}
_FOR_READERS = (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Assert)
_CALLED_FOR_READERS = {"warn", "print", "repr", "isinstance", "issubclass", "super", "cast"}


@dataclass(frozen=True)
class Change:
    """One change of a source."""

    operator: str
    """Name of the mutation operator."""
    function: str
    """Qualified name of the function that is changed; empty at module level."""
    lines: frozenset[int]
    """The change is covered by a run that executes one of these lines."""
    line: int
    """The first line that differs, starting at 1."""
    old: str
    """Whole lines of the source, starting there."""
    new: str
    """Their replacement."""


def changes(text: str) -> list[Change]:
    """Return all changes of a Python source, in source order; some may not compile.

    Args:
        text: The source.

    Raises:
        SyntaxError: The source is not valid Python.
    """
    visitor = _Visitor(text)
    visitor.visit(ast.parse(text))
    return list(dict.fromkeys(visitor.found))


def apply(text: str, change: Change) -> str:
    """Return the source with the change applied."""
    lines = text.splitlines(keepends=True)
    at = sum(map(len, lines[: change.line - 1]))
    return f"{text[:at]}{change.new}{text[at + len(change.old) :]}"


@dataclass
class _Visitor(ast.NodeVisitor):
    text: str
    found: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lines = self.text.splitlines(keepends=True)
        self._starts = [0, *accumulate(map(len, self._lines))]
        self._scope: list[str] = []
        self._statement: ast.stmt | None = None
        self._elsewhere: set[int] = set()
        self._keys: list[list[str]] = [[]]
        self._first_argument = ""

    # Places in the text.

    def _offset(self, line: int, column: int) -> int:
        # Columns count bytes of UTF-8.
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)

    def _span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._offset(node.lineno, node.col_offset)
        return start, self._offset(node.end_lineno, node.end_col_offset)

    def _of(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        start, end = self._span(node)
        return self.text[start:end]

    def _add(self, operator: str, *pieces: tuple[int, int, str]) -> None:
        """Record a change of pieces of the text, each given as start, end and replacement."""
        start, end = min(p[0] for p in pieces), max(p[1] for p in pieces)
        first = self.text.rfind("\n", 0, start) + 1
        last = self.text.find("\n", end) + 1 or len(self.text)
        new, at = "", first
        for low, high, other in sorted(pieces):
            new += self.text[at:low] + other
            at = high
        old, new = self.text[first:last], new + self.text[at:last]
        line = bisect_right(self._starts, first)
        assert self._statement is not None
        lines = {self._statement.lineno, bisect_right(self._starts, start)}
        # Every import executes a definition. Covered is the change only where it is used.
        lines = self._elsewhere or lines
        if old != new:
            self.found.append(
                Change(operator, ".".join(self._scope), frozenset(lines), line, old, new)
            )

    def _replace(self, operator: str, node: ast.expr | ast.stmt, other: str) -> None:
        self._add(operator, (*self._span(node), other))

    # The nodes that are visited.

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, _FOR_READERS):
            return
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            self._display(node)
        elif isinstance(node, ast.stmt):
            outer, self._statement = self._statement, node
            super().visit(node)
            self._statement = outer
        else:
            super().visit(node)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        decorators = {self._of(d).rpartition(".")[2] for d in node.decorator_list}
        if "overload" in decorators or node.name in ("__repr__", "__str__"):
            return
        self._scope.append(node.name)
        self._keys.append(_key_strings(node))
        names = [arg.arg for arg in node.args.args if arg.arg not in ("self", "cls")]
        outer, self._first_argument = self._first_argument, names[0] if names else ""
        body = _without_docstring(node.body)
        self._elsewhere = {body[0].lineno} if body else set()
        self._visit_all([*node.args.defaults, *filter(None, node.args.kw_defaults)])
        self._elsewhere = set()
        self._visit_all(list(body))
        self._first_argument = outer
        self._keys.pop()
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        self._visit_all(list(_without_docstring(node.body)))
        self._scope.pop()

    def visit_Module(self, node: ast.Module) -> None:
        self._keys.append(_key_strings(node))
        uses = _uses_in_functions(node)
        for statement in _without_docstring(node.body):
            if isinstance(getattr(statement, "value", None), ast.Subscript):
                continue  # A type alias.
            self._elsewhere = {n for name in _names_of(statement) for n in uses.get(name, ())}
            self.visit(statement)
            self._elsewhere = set()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all([*node.args.defaults, node.body])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._deletes(node, node.target)
        if node.value:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._deletes(node, node.targets[0])
        names = {t.id for t in node.targets if isinstance(t, ast.Name)}
        if not names & {"__all__"}:
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._delete(node)
        start, end = self._span(node.target)[1], self._span(node.value)[0]
        sign, other = _SWAPPED.get(type(node.op).__name__, ("", ""))
        between = self.text[start:end]
        if sign:
            changed = between.replace(f"{sign}=", f"{other}=", 1)
            self._add("arithmetic", (start, end, changed))
            self._add("accumulation dropped", (start, end, between.replace(f"{sign}=", "=", 1)))
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # The docstring of an attribute.
        if isinstance(node.value, ast.Call):
            if _called(node.value) in _CALLED_FOR_READERS:
                return
            self._delete(node)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._replace("return value dropped", node.value, "None")
        if self._first_argument and self._of(node.value) != self._first_argument:
            self._replace("input returned", node.value, self._first_argument)
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in self._of(node.test):
            return
        self._decides(node.test)
        self.visit(node.test)
        self._visit_all([*node.body, *node.orelse])

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._decides(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._replace("condition negated", node.test, f"not ({self._of(node.test)})")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._replace("filter dropped", condition, "True")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace("break and continue", node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace("break and continue", node, "break")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._swaps_sign("arithmetic", node.op, node.left, node.right)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        pairs = zip([node.left, *node.comparators[:-1]], node.comparators, strict=True)
        for sign, (left, right) in zip(node.ops, pairs, strict=True):
            self._swaps_sign("comparison", sign, left, right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = " or " if isinstance(node.op, ast.And) else " and "
        joined = word.join(f"({self._of(value)})" for value in node.values)
        self._replace("and and or", node, f"({joined})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        name = "sign dropped" if isinstance(node.op, ast.USub) else "condition negated"
        self._replace(name, node, f"({self._of(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace("constant", node, str(not value))
        elif isinstance(value, int):
            self._replace("constant", node, str(value + 1))
            if value == 1:
                self._replace("constant", node, "0")
        elif isinstance(value, float):
            self._replace("constant", node, repr(value * (1 + 1e-3) if value else 1e-3))

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._other_key(node.slice)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        end = self._span(node)[1]
        if other := _OTHER_NAMES.get(node.attr):
            self._add("other function", (end - len(node.attr), end, other))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if other := _OTHER_NAMES.get(node.id):
            self._replace("other function", node, other)

    def visit_Dict(self, node: ast.Dict) -> None:
        for one, two in zip(node.values, node.values[1:], strict=False):
            self._swap("values swapped", one, two)
        self.generic_visit(node)

    def _display(self, node: ast.Tuple | ast.List | ast.Set) -> None:
        if isinstance(getattr(node, "ctx", None), ast.Store):
            return
        if len(node.elts) > 1 and all(isinstance(e, ast.Constant) for e in node.elts):
            for before, one in zip(node.elts, node.elts[1:], strict=False):
                start, end = self._span(before)[1], self._span(one)[1]
                comma = "," if len(node.elts) == 2 and isinstance(node, ast.Tuple) else ""
                self._add("element dropped", (start, end, comma))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = _called(node)
        if name in _CALLED_FOR_READERS:
            return
        if name == "get" and node.args:
            self._other_key(node.args[0])
        if isinstance(node.func, ast.Attribute) and name in _COPIES:
            self._replace("copy or cast dropped", node, self._of(node.func.value))
        elif name in _CONSTRUCTORS and len(node.args) == 1 and not node.keywords:
            self._replace("copy or cast dropped", node, f"({self._of(node.args[0])})")
        for one, two in zip(node.args, node.args[1:], strict=False):
            self._swap("arguments swapped", one, two)
        if len(node.args) > 1:
            start = self._span(node.args[-2])[1]
            self._add("argument dropped", (start, self._span(node.args[-1])[1], ""))
        self._visit_all([node.func, *node.args])
        for keyword in node.keywords:
            # These only affect checks and messages.
            if keyword.arg not in ("strict", "stacklevel"):
                self._drop_keyword(node, keyword)
                self.visit(keyword)

    # Changes that several kinds of nodes share.

    def _decides(self, test: ast.expr) -> None:
        self._replace("condition negated", test, f"(not ({self._of(test)}))")
        self._replace("branch always", test, "True")
        self._replace("branch never", test, "False")

    def _swaps_sign(self, operator: str, sign: ast.AST, left: ast.expr, right: ast.expr) -> None:
        old, new = _SWAPPED.get(type(sign).__name__, ("", ""))
        if old:
            start, end = self._span(left)[1], self._span(right)[0]
            self._add(operator, (start, end, self.text[start:end].replace(old, new, 1)))

    def _swap(self, operator: str, one: ast.expr, two: ast.expr) -> None:
        if not {type(one), type(two)} & {ast.Starred, ast.JoinedStr, ast.GeneratorExp}:
            places = self._span(one), self._span(two)
            self._add(operator, (*places[0], self._of(two)), (*places[1], self._of(one)))

    def _drop_keyword(self, node: ast.Call, keyword: ast.keyword) -> None:
        others: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        others.remove(keyword)
        before = [self._span(o)[1] for o in others if self._span(o)[1] <= self._span(keyword)[0]]
        start, end = self._span(keyword)
        if before:
            start = max(before)
        else:
            after = [self._span(o)[0] for o in others]
            end = min(after, default=end)
        self._add("keyword dropped", (start, end, ""))

    def _other_key(self, node: ast.expr) -> None:
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            return
        keys = list(dict.fromkeys(self._keys[-1]))
        if node.value in keys and len(keys) > 1:
            other = keys[(keys.index(node.value) + 1) % len(keys)]
            self._replace("other key", node, f'"{other}"')

    def _deletes(self, node: ast.Assign | ast.AnnAssign, target: ast.expr) -> None:
        if isinstance(target, ast.Attribute | ast.Subscript):
            self._delete(node)

    def _delete(self, node: ast.stmt) -> None:
        self._replace("statement deleted", node, "pass")


def _called(node: ast.Call) -> str:
    """Return the last part of the called function's name."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_text else body


def _names_of(statement: ast.stmt) -> list[str]:
    """Return the names to which a statement assigns."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _uses_in_functions(module: ast.Module) -> dict[str, set[int]]:
    """Return the lines within functions that use a name, and the first lines of the statements."""
    uses: dict[str, set[int]] = {}
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef):
            continue
        for statement in (n for s in function.body for n in ast.walk(s)):
            if not isinstance(statement, ast.stmt) or isinstance(statement, ast.FunctionDef):
                continue
            for name in ast.walk(statement):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load):
                    uses.setdefault(name.id, set()).update((statement.lineno, name.lineno))
    return uses


def _key_strings(node: ast.AST) -> list[str]:
    """Return the strings that are used as keys of dicts."""

    def candidates() -> Iterator[ast.expr | None]:
        for child in ast.walk(node):
            if isinstance(child, ast.Subscript):
                yield child.slice
            elif isinstance(child, ast.Dict):
                yield from child.keys
            elif isinstance(child, ast.Call) and _called(child) == "get":
                yield from child.args[:1]

    values = [c.value for c in candidates() if isinstance(c, ast.Constant)]
    return [value for value in values if isinstance(value, str)]
