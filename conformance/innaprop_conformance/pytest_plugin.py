"""Options for ``pytest --pyargs innaprop_conformance``, which runs the suite as tests.

pytest finds this through its entry-point group: options have to be known before the tests are.
"""

import sys
from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add --innaprop-backend and --innaprop-family.

    They are --backend and --family too where the command line names the suite: in other runs
    those names belong to others.
    """
    named = any("innaprop_conformance" in argument for argument in sys.argv)
    group = parser.getgroup("innaprop", "INNAprop's conformance suite")
    for name, default in (("backend", "every one that can run here"), ("family", "every one")):
        group.addoption(
            f"--innaprop-{name}",
            *([f"--{name}"] if named else []),
            action="append",
            default=[],
            metavar="NAME",
            dest=f"innaprop_{name}",
            help=f"Only this {name}; may be given more than once. Default: {default}.",
        )
