"""The command ``innaprop``: plan a run; show or clear the user's cache folder."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import innaprop
from innaprop.forms.cache import cache_folder
from innaprop.planning.command import add_plan, planned


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command line after the command's name. Default None: that of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="innaprop", description="INNAprop, an optimizer for deep learning."
    )
    parser.add_argument("--version", action="version", version=f"innaprop {innaprop.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cache = commands.add_parser(
        "cache",
        help="show or clear the cache folder",
        description="Show the folder in which compiled kernels and the conformance suite's ground "
        "truths are cached. INNAPROP_CACHE sets another one.",
    )
    cache.add_argument("--clear", action="store_true", help="remove everything in it")
    add_plan(commands)
    options = parser.parse_args(arguments)
    try:
        if options.command == "plan":
            print(planned(options))
            return 0
        return _cache(clear=options.clear)
    except (ValueError, OSError) as error:
        print(f"innaprop: {error}", file=sys.stderr)
        return 1


def _cache(*, clear: bool) -> int:
    folder = cache_folder()
    if folder is None:
        print("nothing is cached: there is no cache folder that only the user can change")
        return 0
    ours = _ours(folder)
    size = sum(file.stat().st_size for entry in ours for file in (entry, *entry.rglob("*")))
    if clear:
        for entry in ours:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    done = "removed from" if clear else "in"
    print(f"{len(ours)} entries, {size / 2**20:.1f} MiB, {done} {folder}")
    return 0


def _ours(folder: Path) -> list[Path]:
    """Return INNAprop's own entries: INNAPROP_CACHE may name a folder that holds others too."""
    kernels = f"*-{'[0-9a-f]' * 16}-{'[0-9a-f]' * 64}.so"
    patterns = (kernels, "innaprop-build-*", "truths")
    return sorted(entry for pattern in patterns for entry in folder.glob(pattern))
