"""``python -m innaprop_conformance`` is the command ``innaprop-conformance``."""

from innaprop_conformance.cli import main

main(prog_name="innaprop-conformance")
