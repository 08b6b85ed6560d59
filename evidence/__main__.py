"""``python -m evidence``."""

from evidence.command import main

main(prog_name="evidence")
