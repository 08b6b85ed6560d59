"""A sample of mutants that is spread over files, functions and operators."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Sequence

from innaprop_conformance.mutants.mutant import Mutant


def sample(
    mutants: Sequence[Mutant], number: int, seed: int, known: Collection[str] = ()
) -> list[Mutant]:
    """Return a sample of mutants, in the order in which they were chosen.

    Each is taken from the file with the fewest mutants so far, relative to the root of its number
    of mutants; among these, the operator with the fewest is preferred, then the function, then the
    line. The seed breaks ties.

    Args:
        mutants: The mutants to choose from.
        number: Size of the sample; at most all mutants are taken.
        seed: Seed of the sample.
        known: Ids of mutants that were sampled before, which are taken first. Default: none.
    """
    sizes = Counter(mutant.file for mutant in mutants)
    files: Counter[str] = Counter()
    others: Counter[tuple[str, str]] = Counter()
    chosen: list[Mutant] = []
    drawn = {m.id: hashlib.sha256(f"{seed} {m.id}".encode()).digest() for m in mutants}
    rest = sorted(mutants, key=lambda mutant: drawn[mutant.id])

    def take(mutant: Mutant) -> None:
        chosen.append(mutant)
        files[mutant.file] += 1
        others.update(_kinds(mutant))

    for mutant in [mutant for mutant in rest if mutant.id in known][:number]:
        take(mutant)
    rest = [mutant for mutant in rest if mutant.id not in known]
    while rest and len(chosen) < number:

        def used(mutant: Mutant) -> tuple[float, ...]:
            share = files[mutant.file] / math.sqrt(sizes[mutant.file])
            return share, *(others[kind] for kind in _kinds(mutant))

        best = min(rest, key=used)
        rest.remove(best)
        take(best)
    return chosen


def _kinds(mutant: Mutant) -> tuple[tuple[str, str], ...]:
    change = mutant.change
    return (
        ("operator", change.operator),
        ("function", f"{mutant.file} {change.function}"),
        ("line", f"{mutant.file} {change.line}"),
    )
