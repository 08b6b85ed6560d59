"""All cases, by family and by name."""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import replace

from innaprop_conformance.cases.case import Case, Gap, Group
from innaprop_conformance.cases.schedules import Schedule
from innaprop_conformance.cases.values import Gradients, Shape
from innaprop_core import BEST_ACCURACY, FAST_TRAINING, Hyperparameters

SHAPES: tuple[Shape, ...] = ((7, 11), (13,), (), (0, 4), (3, 3, 2, 2))
_FAST = Hyperparameters(gamma=1e-2, weight_decay=0.1, **FAST_TRAINING)
_ACCURATE = Hyperparameters(gamma=1e-2, weight_decay=0.1, **BEST_ACCURACY)
_PRESETS = {"fast": _FAST, "accurate": _ACCURATE}


def _presets() -> Iterator[Case]:
    """Both presets and three other (alpha, beta), under three schedules, and small steps."""
    steps = 150

    def case(name: str, h: Hyperparameters, kind: str) -> Case:
        schedule = Schedule(kind, h.gamma, steps)
        return Case(name, "presets", (Group(h, SHAPES, schedule),), steps)

    dampings = [(h.alpha, h.beta) for h in _PRESETS.values()]
    for alpha, beta in dampings:
        start = f"alpha={alpha:g},beta={beta:g}"
        h = Hyperparameters(gamma=1e-5, alpha=alpha, beta=beta, weight_decay=0.1)
        yield case(f"{start},decay=0.1,gamma=1e-5,constant", h, "constant")
        for sigma, eps in ((0.9, 1e-4), (0.0, 1e-2)):
            h = Hyperparameters(1e-3, alpha, beta, sigma, eps, 0.1)
            yield case(f"{start},sigma={sigma:g},eps={eps:g},constant", h, "constant")
    dampings += [(1.0, 1.0), (0.0, 0.5), (0.5, 3.0)]
    peaks = {"constant": 1e-3, "cosine": 1e-2, "steps": 3e-3}
    for (alpha, beta), decay, (kind, peak) in itertools.product(
        dampings, (0.0, 0.1), peaks.items()
    ):
        h = Hyperparameters(gamma=peak, alpha=alpha, beta=beta, weight_decay=decay)
        yield case(f"alpha={alpha:g},beta={beta:g},decay={decay:g},{kind}", h, kind)


def _corners() -> Iterator[Case]:
    """Hyperparameters at the edges of what is allowed, and where terms vanish."""
    nonzero = Gradients("nonzero")
    corners: dict[str, tuple[Hyperparameters, Gradients]] = {
        "no-damping": (Hyperparameters(1e-2, 0.0, 0.5, weight_decay=0.1), Gradients()),
        "no-momentum": (Hyperparameters(1e-2, 0.5, 2.0, weight_decay=0.1), Gradients()),
        "heavy-damping": (Hyperparameters(1e-2, 20.0, 3.0, weight_decay=0.1), Gradients()),
        "small-beta": (Hyperparameters(1e-3, 0.1, 0.0100001, weight_decay=0.1), Gradients()),
        "beta-above-gamma": (Hyperparameters(0.25, 0.1, 0.2501, weight_decay=0.1), Gradients()),
        "large-step": (Hyperparameters(0.5, 2.0, 2.0, weight_decay=0.01), Gradients()),
        "no-eps": (Hyperparameters(1e-2, eps=0.0), nonzero),
        "no-eps-no-memory": (Hyperparameters(1e-2, sigma=0.0, eps=0.0), nonzero),
        "large-eps": (Hyperparameters(1e-2, eps=10.0), Gradients()),
        "short-memory": (Hyperparameters(1e-2, sigma=0.3), Gradients()),
        "long-memory": (Hyperparameters(1e-2, sigma=0.999999), Gradients()),
        "strong-decay": (Hyperparameters(1e-2, 2.0, 2.0, weight_decay=3.0), Gradients()),
    }
    for name, (h, gradients) in corners.items():
        yield Case(f"corner,{name}", "corners", (Group(h, SHAPES),), 100, gradients)


def _schedules() -> Iterator[Case]:
    """Step sizes and dampings that change, by themselves and together."""
    steps = 100
    linear = {
        "alpha": Schedule("linear", 2.0, steps, 0.1),
        "beta": Schedule("linear", 0.9, steps, 2.0),
    }
    for name, h in _PRESETS.items():
        for kind in ("restarts", "pause", "linear"):
            group = Group(h, SHAPES, Schedule(kind, h.gamma, steps))
            yield Case(f"schedule,{kind},{name}", "schedules", (group,), steps)
    for names in (("alpha",), ("beta",), ("alpha", "beta")):
        group = Group(
            _FAST,
            SHAPES,
            Schedule("cosine", _FAST.gamma, steps),
            **{name: linear[name] for name in names},
        )
        yield Case(f"schedule,{'+'.join(names)}", "schedules", (group,), steps)


def _gradients() -> Iterator[Case]:
    """Gradients of every kind, up to the edges of float32 and beyond."""
    kinds = {
        "sparse": Gradients("sparse"),
        "zero": Gradients("zero"),
        "flipping": Gradients("flipping"),
        "heavy-tailed": Gradients("heavy", -4, 4),
        "wide": Gradients("wide", -18, 18),
        "subnormal": Gradients("normal", -44, -38.5),
    }
    for name, gradients in kinds.items():
        yield Case(f"gradients,{name}", "gradients", (Group(_FAST, SHAPES),), 100, gradients)
    # A square beyond float32's range is the caller's to prevent.
    yield Case(
        "gradients,wider",
        "gradients",
        (Group(_FAST, SHAPES),),
        100,
        Gradients("wide", -30, 30),
        dtypes=("float64",),
    )


def _shapes() -> Iterator[Case]:
    """Parameters of all shapes and numbers."""
    shapes: dict[str, tuple[Shape, ...]] = {
        "scalar": ((),),
        "empty-among-others": ((0,), (3, 0, 2), (1,)),
        "primes": ((2, 3, 5), (7, 11), (127,), (31,), (17,)),
        "rank-5": ((2, 1, 3, 2, 2), (1, 1, 1, 1, 1)),
        "many-small": tuple((n,) for n in range(1, 33)),
    }
    for name, some in shapes.items():
        yield Case(f"shapes,{name}", "shapes", (Group(_ACCURATE, some),), 60)
    million = (Group(_ACCURATE, ((1_000_003,),)),)
    yield Case("shapes,million", "shapes", million, 6, judged=257)


def _long_runs() -> Iterator[Case]:
    """10,000 updates."""
    steps = 10_000
    for name, h in _PRESETS.items():
        group = Group(h, ((3, 2),), Schedule("cosine", h.gamma, steps))
        # One of them in float32 alone, for those to which each takes long.
        dtypes = ("float32",) if h is _FAST else ("float32", "float64")
        yield Case(f"long,{name}", "long runs", (group,), steps, dtypes=dtypes)


def _gaps() -> Iterator[Case]:
    """Parameters that miss a gradient for some updates, or have none until late."""
    for name, h in _PRESETS.items():
        gaps = (Gap(0, 0, 20), Gap(1, 10, 40), Gap(4, 40, 41))
        group = Group(h, SHAPES, Schedule("cosine", h.gamma, 60))
        yield Case(f"gaps,{name}", "missing gradients", (group,), 60, gaps=gaps)


def _groups() -> Iterator[Case]:
    """Parameters whose hyperparameters are not the same."""
    steps = 100
    other = Hyperparameters(1e-3, 1.0, 1.5, 0.99, 1e-6, 0.0)
    groups = (
        Group(_FAST, SHAPES[:2], Schedule("cosine", _FAST.gamma, steps)),
        Group(_ACCURATE, SHAPES[2:4]),
        Group(other, SHAPES[4:], Schedule("steps", other.gamma, steps)),
    )
    yield Case("groups,all-settings", "groups", groups, steps)
    bare = Hyperparameters(_FAST.gamma, weight_decay=0.0, **FAST_TRAINING)
    yield Case("groups,decay", "groups", (Group(_FAST, SHAPES[:2]), Group(bare, SHAPES[2:])), steps)


def _precision() -> Iterator[Case]:
    """Every dtype of parameters; 16-bit ones by themselves, without a residual."""
    for name, h in _PRESETS.items():
        group = Group(h, SHAPES, Schedule("cosine", h.gamma, 100))
        yield Case(
            f"precision,{name}",
            "precision",
            (group,),
            100,
            Gradients("normal", -3, 3),
            dtypes=("float64", "float32", "bfloat16", "float16"),
        )


def _decay() -> Iterator[Case]:
    """Weight decay up to where a step takes all of a weight, and decay that spares the momentum.

    1 - gamma lambda (1 + gamma (1 - alpha beta) / beta) is what an update leaves of a weight in
    itself. Forms that find the old weight from the new one divide by it.
    """
    steps = 40
    shares = {
        "1e-6": Hyperparameters(1e-3, 0.1, 0.9, weight_decay=1e-3),
        "0.25": Hyperparameters(0.25, 2.0, 0.5, weight_decay=1.0),
        "0.9": Hyperparameters(0.3, 0.1, 0.9, weight_decay=3.0),
        "1": Hyperparameters(0.25, 2.0, 0.5, weight_decay=4.0),
        "1,damped": Hyperparameters(0.25, 4.0, 2.0, weight_decay=4.0),
        "1.25": Hyperparameters(0.25, 0.1, 0.5, weight_decay=5.0),
    }
    for share, h in shares.items():
        yield Case(f"decay,{share}", "decay", (Group(h, SHAPES),), steps)
        linear = Schedule("linear", h.gamma / 2, steps, h.gamma)
        yield Case(f"decay,{share},linear", "decay", (Group(h, SHAPES, linear),), steps)
    remainder_is_none = Hyperparameters(0.5, 0.5, 1.0, weight_decay=1.6)  # 0.8 (1 + 0.25) = 1
    yield Case("decay,nothing-left", "decay", (Group(remainder_is_none, SHAPES),), steps)


def _spared_momentum() -> Iterator[Case]:
    """Weight decay as AdamW has it: it takes its share of the weight, and leaves the momentum."""
    steps = 100
    for name, h in {
        "fast": _FAST,
        "accurate": _ACCURATE,
        "decay-1": Hyperparameters(0.25, 0.1, 0.9, weight_decay=4.0),
        "alpha-beta-1": Hyperparameters(1e-2, 0.5, 2.0, weight_decay=0.1),
    }.items():
        spared = replace(h, decay_momentum=False)
        group = Group(spared, SHAPES, Schedule("cosine", h.gamma, steps))
        yield Case(f"spared,{name}", "spared momentum", (group,), steps)
    bare = Hyperparameters(_FAST.gamma, weight_decay=0.0, decay_momentum=False, **FAST_TRAINING)
    fast = replace(_FAST, decay_momentum=False)
    both = (Group(fast, SHAPES[:2]), Group(bare, SHAPES[2:]))
    yield Case("spared,groups", "spared momentum", both, steps)


def _by_name(cases: Iterator[Case]) -> dict[str, Case]:
    return {case.name: case for case in cases}


FAMILIES: dict[str, dict[str, Case]] = {
    "presets": _by_name(_presets()),
    "corners": _by_name(_corners()),
    "schedules": _by_name(_schedules()),
    "gradients": _by_name(_gradients()),
    "shapes": _by_name(_shapes()),
    "long runs": _by_name(_long_runs()),
    "missing gradients": _by_name(_gaps()),
    "groups": _by_name(_groups()),
    "decay": _by_name(_decay()),
    "spared momentum": _by_name(_spared_momentum()),
    "precision": _by_name(_precision()),
}
"""Every family's cases, by name."""

CASES: dict[str, Case] = {
    name: case for family in FAMILIES.values() for name, case in family.items()
}
"""Every case by name."""


def select(families: Collection[str] = (), seed: int = 0) -> dict[str, Case]:
    """Return the cases of some families, with values of another seed.

    Args:
        families: Names of families. Default: all of them.
        seed: As in ``Case``. Default 0.

    Raises:
        ValueError: A family is not known.
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
    """Return cases that reach every family but the long runs, as few as can be.

    For backends that every case or every update costs a second or more.
    """
    chosen = (
        "alpha=2,beta=2,decay=0.1,cosine",
        "corner,no-damping",
        "schedule,alpha+beta",
        "gradients,wide",
        "shapes,primes",
        "gaps,fast",
        "groups,all-settings",
        "groups,decay",
        "decay,1",
        "decay,1.25,linear",
        "spared,fast",
        "precision,accurate",
    )
    return {name: CASES[name] for name in chosen}


def some() -> dict[str, Case]:
    """Return a quarter of the cases.

    For backends that compile every case anew, and those that another one stands for.
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
        "shapes,million",
        "decay,0.9",
        "decay,1,damped",
        "decay,1,linear",
        "decay,nothing-left",
        "spared,accurate",
        "spared,decay-1",
        "long,fast",
    }
    return {name: case for name, case in CASES.items() if name in chosen or name in few()}
