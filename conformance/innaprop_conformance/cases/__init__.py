"""The cases: what every backend is asked to follow, as data.

- ``hyperparameters``, ``schedules``: the numbers of an update, and as functions of those before it.
- ``values``: how parameters and gradients are made, and numbers that every dtype holds.
- ``dtypes``: what parameters are stored in.
- ``events``: what happens besides updates, and ways to hand things over.
- ``case``: one run, with its name and version; JSON and back.
- ``numbers``, ``arrays``, ``runs``: the cases; ``families``: all of them, by family and by name.
"""

from innaprop_conformance.cases.case import Case, Gap, Group, flat
from innaprop_conformance.cases.events import Event
from innaprop_conformance.cases.families import CASES, FAMILIES, few, select, some
from innaprop_conformance.cases.hyperparameters import Hyperparameters
from innaprop_conformance.cases.schedules import Schedule
from innaprop_conformance.cases.values import Array, Gradients

__all__ = [
    "CASES",
    "FAMILIES",
    "Array",
    "Case",
    "Event",
    "Gap",
    "Gradients",
    "Group",
    "Hyperparameters",
    "Schedule",
    "few",
    "flat",
    "select",
    "some",
]
