"""``python -m innaprop_conformance`` is the command ``innaprop-conformance``."""

from innaprop_conformance.command import main

main()
