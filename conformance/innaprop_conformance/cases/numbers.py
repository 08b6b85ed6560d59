"""Cases about numbers: hyperparameters, schedules, gradients and counts."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from innaprop_conformance.cases.case import Case, Gap, Group
from innaprop_conformance.cases.hyperparameters import Hyperparameters
from innaprop_conformance.cases.schedules import Schedule
from innaprop_conformance.cases.values import Gradients, Shape

SHAPES: tuple[Shape, ...] = ((7, 11), (13,), (), (0, 4), (3, 3, 2, 2))
FAST = Hyperparameters(gamma=1e-2, weight_decay=0.1, alpha=0.1, beta=0.9)
ACCURATE = Hyperparameters(gamma=1e-2, weight_decay=0.1, alpha=2.0, beta=2.0)
PRESETS = {"fast": FAST, "accurate": ACCURATE}


def presets() -> Iterator[Case]:
    """Both presets and three other (alpha, beta), with three schedules; and small step sizes."""
    steps = 150

    def case(name: str, h: Hyperparameters, kind: str) -> Case:
        schedule = Schedule(kind, h.gamma, steps)
        return Case(name, "presets", (Group(h, SHAPES, schedule),), steps)

    dampings = [(h.alpha, h.beta) for h in PRESETS.values()]
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


def corners() -> Iterator[Case]:
    """Hyperparameters at the limits of their ranges, and those for which terms vanish."""
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


def schedules() -> Iterator[Case]:
    """Schedules of the step size, of alpha and of beta, alone and together."""
    steps = 100
    linear = {
        "alpha": Schedule("linear", 2.0, steps, 0.1),
        "beta": Schedule("linear", 0.9, steps, 2.0),
    }
    for name, h in PRESETS.items():
        for kind in ("restarts", "pause", "linear"):
            group = Group(h, SHAPES, Schedule(kind, h.gamma, steps))
            yield Case(f"schedule,{kind},{name}", "schedules", (group,), steps)
    for names in (("alpha",), ("beta",), ("alpha", "beta")):
        group = Group(
            FAST,
            SHAPES,
            Schedule("cosine", FAST.gamma, steps),
            alpha=linear["alpha"] if "alpha" in names else None,
            beta=linear["beta"] if "beta" in names else None,
        )
        yield Case(f"schedule,{'+'.join(names)}", "schedules", (group,), steps)


def gradients() -> Iterator[Case]:
    """Gradients of every kind, up to the limits of float32 and beyond."""
    kinds = {
        "sparse": Gradients("sparse"),
        "zero": Gradients("zero"),
        "flipping": Gradients("flipping"),
        "heavy-tailed": Gradients("heavy", -4, 4),
        "wide": Gradients("wide", -18, 18),
        "subnormal": Gradients("normal", -44, -38.5),
    }
    for name, gradients in kinds.items():
        yield Case(f"gradients,{name}", "gradients", (Group(FAST, SHAPES),), 100, gradients)
    # In float64 only: callers must prevent gradients whose squares overflow float32.
    yield Case(
        "gradients,wider",
        "gradients",
        (Group(FAST, SHAPES),),
        100,
        Gradients("wide", -30, 30),
        dtypes=("float64",),
    )


def long_runs() -> Iterator[Case]:
    """10,000 updates."""
    steps = 10_000
    for name, h in PRESETS.items():
        group = Group(h, ((3, 2),), Schedule("cosine", h.gamma, steps))
        # One in float32 only, for slow backends.
        dtypes = ("float32",) if h is FAST else ("float32", "float64")
        yield Case(f"long,{name}", "long runs", (group,), steps, dtypes=dtypes)


def gaps() -> Iterator[Case]:
    """Parameters without gradients in some updates, or until late in the run."""
    for name, h in PRESETS.items():
        gaps = (Gap(0, 0, 20), Gap(1, 10, 40), Gap(4, 40, 41))
        group = Group(h, SHAPES, Schedule("cosine", h.gamma, 60))
        yield Case(f"gaps,{name}", "missing gradients", (group,), 60, gaps=gaps)


def groups() -> Iterator[Case]:
    """Parameter groups with different hyperparameters."""
    steps = 100
    other = Hyperparameters(1e-3, 1.0, 1.5, 0.99, 1e-6, 0.0)
    groups = (
        Group(FAST, SHAPES[:2], Schedule("cosine", FAST.gamma, steps)),
        Group(ACCURATE, SHAPES[2:4]),
        Group(other, SHAPES[4:], Schedule("steps", other.gamma, steps)),
    )
    yield Case("groups,all-settings", "groups", groups, steps)
    bare = Hyperparameters(FAST.gamma, weight_decay=0.0, alpha=0.1, beta=0.9)
    yield Case("groups,decay", "groups", (Group(FAST, SHAPES[:2]), Group(bare, SHAPES[2:])), steps)


def decay() -> Iterator[Case]:
    """Weight decay, up to values at which one update removes the whole weight or more.

    An update multiplies a weight by 1 - gamma lambda (1 + gamma (1 - alpha beta) / beta), apart
    from momentum and gradient. Kernels that recover the old weight from the new one divide by this.
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


def spared_momentum() -> Iterator[Case]:
    """Weight decay that does not change the momentum, as in AdamW."""
    steps = 100
    for name, h in {
        "fast": FAST,
        "accurate": ACCURATE,
        "decay-1": Hyperparameters(0.25, 0.1, 0.9, weight_decay=4.0),
        "alpha-beta-1": Hyperparameters(1e-2, 0.5, 2.0, weight_decay=0.1),
    }.items():
        spared = replace(h, decay_momentum=False)
        group = Group(spared, SHAPES, Schedule("cosine", h.gamma, steps))
        yield Case(f"spared,{name}", "spared momentum", (group,), steps)
    # A weight whose gradients have all been zero is zero after one update. Hardly any error is
    # allowed there from the second on, so roundings left in the momentum show.
    whole = Hyperparameters(0.25, 0.1, 0.9, weight_decay=4.0, decay_momentum=False)
    group = Group(whole, SHAPES)
    yield Case("spared,sparse", "spared momentum", (group,), steps, Gradients("sparse"))
    bare = Hyperparameters(FAST.gamma, weight_decay=0.0, decay_momentum=False, alpha=0.1, beta=0.9)
    fast = replace(FAST, decay_momentum=False)
    both = (Group(fast, SHAPES[:2]), Group(bare, SHAPES[2:]))
    yield Case("spared,groups", "spared momentum", both, steps)


def counts() -> Iterator[Case]:
    """Large counts, which 16-bit integers or float32 cannot hold."""
    steps = 12
    for counted, sigma in ((32_762, 0.9999), (65_530, 0.9999), (2**24 - 6, 0.9999999)):
        h = Hyperparameters(1e-2, sigma=sigma, weight_decay=0.1)
        yield Case(f"count,{counted}", "counts", (Group(h, SHAPES),), steps, counted=counted)
    h = Hyperparameters(1e-4, sigma=0.99999, weight_decay=0.1)
    group = Group(h, ((3,),))
    yield Case("count,all-of-66000", "counts", (group,), 66_000, dtypes=("float32",))
