"""Cases about events between updates, ways to make updates, and repeated runs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from innaprop_conformance.cases.case import Case, Gap, Group
from innaprop_conformance.cases.events import Event
from innaprop_conformance.cases.hyperparameters import Hyperparameters
from innaprop_conformance.cases.numbers import ACCURATE, FAST
from innaprop_conformance.cases.schedules import Schedule
from innaprop_conformance.cases.values import Gradients, Shape

STEPS = 14
SHAPES: tuple[Shape, ...] = ((3, 4), (3, 4), (5,), (), (2, 3))
UNUSUAL = Hyperparameters(1e-2, 0.3, 0.8, 0.99, 1e-2, 0.2)
"""Hyperparameters that differ from the defaults, so that a lost option shows."""
_ONE = ("float32",)
_FULL = Gradients("nonzero", -2, 1)


def _case(name: str, family: str, *groups: Group, **values: Any) -> Case:
    values = {"gradients": _FULL, "dtypes": _ONE, **values}
    return Case(name, family, groups or (Group(UNUSUAL, SHAPES),), STEPS, **values)


def events() -> Iterator[Case]:
    """States that are saved, loaded, handed over or copied; parameters added or replaced."""

    def case(name: str, *happening: Event, groups: tuple[Group, ...] = (), **values: Any) -> Case:
        return _case(f"event,{name}", "events", *groups, events=happening, **values)

    same: dict[str, Any] = {"repeats": ("without events",)}
    for kind in ("reload", "portable reload", "hand over", "copy", "pickle"):
        name = kind.replace(" ", "-")
        yield case(name, Event(kind, 5), Event(kind, 9), dtypes=("float32", "float64"), **same)
    gaps = (Gap(1, 0, 9), Gap(3, 3, 6))
    yield case("reload,gaps", Event("reload", 4), gaps=gaps)
    yield case("portable-reload,gaps", Event("portable reload", 4), gaps=gaps)
    scheduled = Group(ACCURATE, SHAPES, alpha=Schedule("linear", 2.0, STEPS, 0.1),
                      beta=Schedule("linear", 2.0, STEPS, 0.9))  # fmt: skip
    yield case("reload,dampings", Event("reload", 6), groups=(scheduled,))
    yield case("portable-reload,dampings", Event("portable reload", 6), groups=(scheduled,))
    narrow = ("float32", "bfloat16", "float16")
    for kind in ("reload", "portable reload", "hand over"):
        name = f"{kind.replace(' ', '-')},precision"
        yield case(name, Event(kind, 7), dtypes=narrow)
    other = Hyperparameters(2e-3, 1.0, 1.5, 0.99, 1e-4, 0.3)
    groups = (Group(UNUSUAL, SHAPES), Group(other, SHAPES))
    yield case("reload,groups", Event("reload", 6), groups=groups, **same)
    yield case("portable-reload,groups", Event("portable reload", 6), groups=groups)
    spared = replace(UNUSUAL, decay_momentum=False)
    halves = (Group(spared, SHAPES[:2]), Group(replace(spared, weight_decay=0.0), SHAPES[2:]))
    yield case("reload,decay", Event("reload", 6), groups=halves)
    yield case("portable-reload,decay", Event("portable reload", 6), groups=halves)
    for kind in ("replace", "add"):
        yield case(kind, Event(kind, 4, 1), Event(kind, 8, 3), dtypes=("float32", "float64"))
    yield case("relocate", Event("relocate", 3), Event("relocate", 8), **same)
    changes: dict[str, tuple[tuple[str, float], ...]] = {
        "alpha": (("alpha", 1.5),),
        "beta": (("beta", 2.5),),
        "sigma": (("sigma", 0.9),),
        "eps": (("eps", 0.1),),
        "weight_decay": (("weight_decay", 2.0),),
        "no-decay": (("weight_decay", 0.0),),
    }
    for name, values in changes.items():
        yield case(f"change,{name}", Event("change", 5, values=values))
    some = (Event("change", 4, values=changes["alpha"]), Event("change", 8, values=changes["beta"]))
    yield case("change,and-reload", some[0], Event("reload", 6), some[1])


def ways() -> Iterator[Case]:
    """Yield a run for every way that frameworks have to make updates."""

    def case(way: str, *groups: Group, name: str = "", **values: Any) -> Case:
        name = name or way.replace(" ", "-")
        return _case(f"way,{name}", "ways", *groups, way=way, **values)

    both = ("float32", "float64")
    yield case("defaults", Group(Hyperparameters(), SHAPES), dtypes=both)
    accurate = Hyperparameters(1e-3, 2.0, 2.0)
    yield case("preset", Group(accurate, SHAPES))
    for way in ("maximize", "closure", "capturable", "strided gradients", "strided parameters"):
        yield case(way, dtypes=both)
    other = Group(replace(ACCURATE, eps=1e-2), SHAPES)
    yield case("capturable", Group(FAST, SHAPES), other, name="capturable,groups")
    dampings = Group(FAST, SHAPES, alpha=Schedule("linear", 2.0, STEPS, 0.1))
    gaps = (Gap(0, 0, 3), Gap(2, 5, 8))
    yield case("capturable", dampings, name="capturable,dampings", gaps=gaps)
    yield case("loss scaling", other, events=(Event("skip", 3), Event("skip", 7)))
    yield case("accumulation", other)
    for way, amount in (("value", 0.25), ("norm", 0.5), ("global norm", 1.0)):
        yield case(f"clip by {way}", other, amount=amount)
    narrow = ("float32", "bfloat16", "float16")
    yield case("moving average", amount=0.9, dtypes=narrow)
    yield case("constraint", amount=0.5, dtypes=narrow)
    yield case("step in backward", dtypes=both)
    bare = replace(FAST, weight_decay=0.0)
    halves = (Group(FAST, SHAPES[:2]), Group(bare, SHAPES[2:]))
    for way in ("excluded by name", "excluded by mask"):
        yield case(way, *halves)
    linear = Group(FAST, SHAPES, Schedule("linear", 1e-2, STEPS, 1e-3))
    yield case("step size schedule", linear)
    yield case("step size function", linear)
    rows = Group(replace(ACCURATE, eps=1e-2), ((6, 3), (5,), (9, 2)))
    yield case("sparse gradients", rows, gradients=Gradients("rows", -2, 1))
    pairs = Group(FAST, ((3, 2), (5, 2), (2,), (2, 3, 2)))
    yield case("complex", pairs, dtypes=both)
    yield case("psi", dtypes=both)
    yield case("psi", dampings, name="psi,dampings")


def repeats() -> Iterator[Case]:
    """Yield runs that are repeated, and must be bitwise equal."""
    shapes: tuple[Shape, ...] = (*SHAPES, (1000,), (3, 400))
    for name, h in (("fast", FAST), ("accurate", ACCURATE)):
        yield _case(f"repeat,{name}", "repeats", Group(h, shapes), repeats=("again",),
                    dtypes=("float32", "float64"))  # fmt: skip
