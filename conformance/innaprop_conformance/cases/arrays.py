"""Cases about arrays: their shapes, sizes, number, dtypes and special values."""

from collections.abc import Iterator
from dataclasses import replace

from innaprop_conformance.cases.case import Case, Gap, Group
from innaprop_conformance.cases.hyperparameters import Hyperparameters
from innaprop_conformance.cases.numbers import ACCURATE, FAST, PRESETS, SHAPES
from innaprop_conformance.cases.schedules import Schedule
from innaprop_conformance.cases.values import Gradients, Shape

ALIKE: tuple[Shape, ...] = ((5, 4), (5, 4), (5, 4), (6,), (6,), (), ())
"""Parameters of which several have the same shape."""
_NARROW = Gradients("normal", -3, 3)
"""Gradients in float16's range."""
_EVERY_DTYPE = ("float64", "float32", "bfloat16", "float16")


def shapes() -> Iterator[Case]:
    """Parameters of various shapes."""
    of_case: dict[str, tuple[Shape, ...]] = {
        "scalar": ((),),
        "empty-among-others": ((0,), (3, 0, 2), (1,)),
        "primes": ((2, 3, 5), (7, 11), (127,), (31,), (17,)),
        "rank-5": ((2, 1, 3, 2, 2), (1, 1, 1, 1, 1)),
        "many-small": tuple((n,) for n in range(1, 33)),
    }
    for name, some in of_case.items():
        yield Case(f"shapes,{name}", "shapes", (Group(ACCURATE, some),), 60)


def alike() -> Iterator[Case]:
    """Parameters of the same shape, whose states must not be mixed up."""
    for name, h in PRESETS.items():
        yield Case(f"alike,{name}", "alike parameters", (Group(h, ALIKE),), 40)
    gaps = (Gap(0, 0, 3), Gap(4, 5, 9), Gap(5, 0, 2))
    yield Case("alike,gaps", "alike parameters", (Group(FAST, ALIKE),), 40, gaps=gaps)
    other = replace(ACCURATE, gamma=3e-3, sigma=0.9, eps=1e-3)
    groups = (Group(FAST, ALIKE), Group(other, ALIKE))
    yield Case("alike,groups", "alike parameters", groups, 40)


def large() -> Iterator[Case]:
    """Large parameters, in which every element is judged.

    Their values repeat periodically, so the results must repeat too. Errors at the boundaries of
    blocks, of chunks and of threads' parts would break the repetition.
    """
    several: tuple[Shape, ...] = ((131_101,), (65_536,), (3,), (257, 513), (32_771,))
    yield Case(
        "large,several",
        "large parameters",
        (Group(ACCURATE, several),),
        5,
        _NARROW,
        dtypes=_EVERY_DTYPE,
        period=251,
        repeats=("one thread", "three threads"),
    )
    for name, size, gap in (("million", 1_048_583, 0), ("two-million", 2_097_169, 1)):
        group = Group(FAST, ((size,), (7,), (99_991,)))
        gaps = (Gap(1, 0, 1),) * gap
        yield Case(
            f"large,{name}", "large parameters", (group,), 3, dtypes=("float32",), period=251,
            gaps=gaps,
        )  # fmt: skip


def many() -> Iterator[Case]:
    """More parameters than an implementation may process in one block, batch or table."""
    for number in (65, 257, 1025):
        some = tuple((1 + i % 3,) for i in range(number))
        yield Case(f"many,{number}", "many parameters", (Group(ACCURATE, some),), 8)


def mixed() -> Iterator[Case]:
    """Parameters of several dtypes in one optimizer."""
    two = (Group(FAST, ALIKE), Group(FAST, ALIKE, dtype="float64"))
    yield Case("mixed,two", "mixed dtypes", two, 40, dtypes=("float32",))
    dtypes = ("bfloat16+residual", None, "float16+residual", "float64")
    four = tuple(Group(ACCURATE, ALIKE, dtype=dtype) for dtype in dtypes)
    yield Case("mixed,four", "mixed dtypes", four, 40, _NARROW, dtypes=("float32",))


def all_bits() -> Iterator[Case]:
    """Values that use every bit of their dtype."""
    for dtype in ("float32", "float64"):
        for name, h in PRESETS.items():
            group = Group(h, SHAPES, Schedule("cosine", h.gamma, 60))
            yield Case(
                f"bits,{dtype},{name}", "all bits", (group,), 60, dtypes=(dtype,), values=dtype
            )
        bare = Hyperparameters(1e-3, 1.0, 1.5, weight_decay=0.0)
        group = Group(bare, SHAPES)
        yield Case(f"bits,{dtype},bare", "all bits", (group,), 60, dtypes=(dtype,), values=dtype)


def special() -> Iterator[Case]:
    """Zeros, very small numbers, NaN and infinity."""
    family = "special values"
    for start in ("zero", "half zero"):
        name = f"special,{start.replace(' ', '-')}-weights"
        group = Group(FAST, SHAPES)
        yield Case(name, family, (group,), 40, Gradients("sparse"), start=start)
    no_eps = replace(FAST, eps=0.0)
    tiny = {"float32": Gradients("nonzero", -14, -12), "float64": Gradients("nonzero", -150, -90)}
    for dtype, gradients in tiny.items():
        group = Group(no_eps, SHAPES)
        yield Case(f"special,tiny,{dtype}", family, (group,), 40, gradients, dtypes=(dtype,),
                   values=dtype)  # fmt: skip
    for name, h in PRESETS.items():
        group = Group(h, (*SHAPES, (64,)))
        yield Case(f"special,broken,{name}", family, (group,), 20, Gradients("broken", -2, 2))


def precision() -> Iterator[Case]:
    """Parameters of every dtype, with and without residuals if it has 16 bits."""

    def case(name: str, *groups: Group, gaps: tuple[Gap, ...] = (), start: str = "normal") -> Case:
        return Case(
            f"precision,{name}", "precision", groups, 100, _NARROW, gaps, _EVERY_DTYPE, start=start
        )

    for name, h in PRESETS.items():
        yield case(name, Group(h, SHAPES, Schedule("cosine", h.gamma, 100)))
    yield case("gaps", Group(FAST, ALIKE), gaps=(Gap(0, 0, 20), Gap(4, 10, 40)))
    yield case("small-steps", Group(replace(FAST, gamma=1e-5), SHAPES))
    spared = Hyperparameters(0.25, 0.1, 0.9, weight_decay=4.0, decay_momentum=False)
    yield case("spared", Group(spared, SHAPES))
    beyond = Hyperparameters(0.25, 0.1, 0.5, weight_decay=5.0)
    yield case("decay-1.25", Group(beyond, SHAPES))
    yield case("zero-weights", Group(replace(ACCURATE, weight_decay=0.0), SHAPES), start="zero")
