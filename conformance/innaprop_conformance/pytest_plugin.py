"""pytest options of the suite.

``pytest -p innaprop_conformance.pytest_plugin --pyargs innaprop_conformance`` loads them. There is
no pytest entry point, since pytest would load it in every run in the environment.
"""

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add --backend, --family, --xfails and --case-timeout."""
    group = parser.getgroup("innaprop", "INNAprop's conformance suite")
    for name, default in (
        ("backend", "every registered one that can run here"),
        ("family", "every one"),
    ):
        group.addoption(
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME",
            dest=f"innaprop_{name}",
            help=f"Only this {name}; may be given more than once. Default: {default}.",
        )
    group.addoption(
        "--xfails",
        action="append",
        default=[],
        metavar="FILE",
        dest="innaprop_xfails",
        help="What is expected to fail, and must, as for `innaprop-conformance run`.",
    )
    group.addoption(
        "--case-timeout",
        type=float,
        metavar="SECONDS",
        dest="innaprop_timeout",
        help="End a backend that takes longer for one case.",
    )
