"""The entry of the command: says what to install where something is missing."""

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
