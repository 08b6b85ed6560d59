"""Options for the suite as tests.

``pytest -p innaprop_conformance.pytest_plugin --pyargs innaprop_conformance`` loads them. No entry
point does: what is installed for one run would be loaded in all others too.
"""

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add --backend and --family."""
    group = parser.getgroup("innaprop", "INNAprop's conformance suite")
    for name, default in (("backend", "every one that can run here"), ("family", "every one")):
        group.addoption(
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME",
            dest=f"innaprop_{name}",
            help=f"Only this {name}; may be given more than once. Default: {default}.",
        )
