"""The entry point of the command: if a package is missing, it says what to install."""

import sys


def main() -> None:
    """Run ``innaprop-conformance``."""
    try:
        from innaprop_conformance.cli import main as command
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0].startswith("innaprop"):
            raise
        sys.exit(
            f"innaprop-conformance needs {error.name}, which is not installed: "
            'pip install "innaprop[conformance]"'
        )
    command(prog_name="innaprop-conformance")
