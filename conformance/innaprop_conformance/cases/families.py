"""All cases, by family and by name."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from innaprop_conformance.cases import arrays, numbers, runs
from innaprop_conformance.cases.case import Case


def _by_name(cases: Iterator[Case]) -> dict[str, Case]:
    return {case.name: case for case in cases}


FAMILIES: dict[str, dict[str, Case]] = {
    "presets": _by_name(numbers.presets()),
    "corners": _by_name(numbers.corners()),
    "schedules": _by_name(numbers.schedules()),
    "gradients": _by_name(numbers.gradients()),
    "shapes": _by_name(arrays.shapes()),
    "alike parameters": _by_name(arrays.alike()),
    "many parameters": _by_name(arrays.many()),
    "large parameters": _by_name(arrays.large()),
    "long runs": _by_name(numbers.long_runs()),
    "counts": _by_name(numbers.counts()),
    "missing gradients": _by_name(numbers.gaps()),
    "groups": _by_name(numbers.groups()),
    "decay": _by_name(numbers.decay()),
    "spared momentum": _by_name(numbers.spared_momentum()),
    "all bits": _by_name(arrays.all_bits()),
    "special values": _by_name(arrays.special()),
    "precision": _by_name(arrays.precision()),
    "mixed dtypes": _by_name(arrays.mixed()),
    "events": _by_name(runs.events()),
    "ways": _by_name(runs.ways()),
    "repeats": _by_name(runs.repeats()),
}
"""Every family's cases, by name."""

CASES: dict[str, Case] = {
    name: case for family in FAMILIES.values() for name, case in family.items()
}
"""Every case by name."""


def select(families: Collection[str] = (), seed: int = 0) -> dict[str, Case]:
    """Return the cases of the given families, with a seed for their values.

    Args:
        families: Names of families. Default: all.
        seed: As in ``Case``. Default 0.

    Raises:
        ValueError: A family is unknown.
    """
    for family in families:
        if family not in FAMILIES:
            raise ValueError(f"{family!r} is not one of {', '.join(FAMILIES)}")
    return {
        name: replace(case, seed=seed)
        for name, case in CASES.items()
        if not families or case.family in families
    }


def few() -> dict[str, Case]:
    """Return one or two cases of most families.

    For backends that need a second or more for a case's compilation or for an update.
    """
    chosen = (
        "alpha=2,beta=2,decay=0.1,cosine",
        "alpha=0.1,beta=0.9,decay=0,cosine",
        "corner,no-damping",
        "schedule,alpha+beta",
        "gradients,wide",
        "shapes,primes",
        "alike,fast",
        "gaps,fast",
        "groups,all-settings",
        "groups,decay",
        "decay,1",
        "decay,1.25,linear",
        "spared,fast",
        "bits,float32,fast",
        "special,broken,fast",
        "precision,accurate",
    )
    return {name: CASES[name] for name in chosen}


def some() -> dict[str, Case]:
    """Return about a third of the cases, including all events and ways.

    For backends that compile every case, and for those that share most code with another backend.
    """
    chosen = {
        "alpha=0.1,beta=0.9,decay=0.1,cosine",
        "alpha=2,beta=2,sigma=0,eps=0.01,constant",
        "alpha=2,beta=2,decay=0.1,steps",
        "corner,beta-above-gamma",
        "corner,large-step",
        "corner,no-eps",
        "schedule,pause,accurate",
        "gradients,sparse",
        "gradients,wider",
        "gradients,subnormal",
        "shapes,empty-among-others",
        "alike,gaps",
        "alike,groups",
        "many,65",
        "large,several",
        "decay,0.9",
        "decay,1,damped",
        "decay,1,linear",
        "decay,nothing-left",
        "spared,accurate",
        "spared,decay-1",
        "spared,sparse",
        "long,fast",
        "count,32762",
        "count,65530",
        "count,16777210",
        "bits,float64,accurate",
        "bits,float32,bare",
        "special,half-zero-weights",
        "special,tiny,float32",
        "special,tiny,float64",
        "special,broken,accurate",
        "mixed,two",
        "mixed,four",
    }
    whole = ("precision", "events", "ways", "repeats")
    return {
        name: case
        for name, case in CASES.items()
        if name in chosen or name in few() or case.family in whole
    }
