"""A sample of mutants that is spread over files, functions and operators."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Sequence

from innaprop_conformance.mutants.mutant import Mutant


def sample(
    mutants: Sequence[Mutant], number: int, seed: int, known: Collection[str] = ()
) -> list[Mutant]:
    """Return some of the mutants, in the order in which they were chosen.

    Every next one is of the file of which there are fewest yet, for its size; of the operator there
    of which there are fewest; of the function and line likewise. The seed decides between equals.

    Args:
        mutants: Those to choose from.
        number: How many; all, if there are not more.
        seed: Another one makes another sample.
        known: Ids of such that are taken first: they were chosen before.
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
