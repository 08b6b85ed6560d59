"""The test cases, as data.

- ``hyperparameters``, ``schedules``: constant hyperparameters, and those that change in a run.
- ``values``: how parameters and gradients are generated, and rounding to a dtype.
- ``dtypes``: the dtypes that parameters and states are stored in.
- ``events``: what happens between updates, and ways to make updates.
- ``case``: one run, with its name and version; conversion to and from JSON.
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
