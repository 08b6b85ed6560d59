"""Runs a code block of a page: ``run_block.py PAGE LINE ARGUMENTS``; lines keep their numbers.

A process of its own for each, and several where ``torchrun`` starts it.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path


def define_operators_of_torchvision():
    """Let torchvision be imported beside a PyTorch without CUDA.

    The wheel of PyPI is built for CUDA; without it the library of its operators does not load, and
    the import fails where it describes them. Nothing here calls them.
    """
    import torch

    spec = find_spec("torchvision")
    if spec is None or torch.version.cuda is not None:
        return
    folder = Path(spec.origin).parent
    if "+cu" not in (folder / "version.py").read_text():
        return
    text = (folder / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(set(re.findall(r'register_(?:fake|meta)\(\s*"(?:\w+::)?(\w+)"', text))):
        library.define(f"{name}() -> ()")
    define_operators_of_torchvision.library = library


def code_at(page, line):
    """Return the block that starts after a line, with that many empty lines before it."""
    lines = Path(page).read_text(encoding="utf-8").splitlines()[line:]
    code = lines[: next(i for i, text in enumerate(lines) if text.startswith("```"))]
    return "\n" * line + "\n".join(code)


if __name__ == "__main__":
    page, line = sys.argv[1], int(sys.argv[2])
    if find_spec("torchvision"):
        define_operators_of_torchvision()
    code = compile(code_at(page, line), page, "exec")
    sys.argv = [page, *sys.argv[3:]]
    names = {"__name__": "__main__"}
    exec(code, names)
