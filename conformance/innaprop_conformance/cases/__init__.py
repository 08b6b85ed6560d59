"""The cases: what every backend is asked to follow, as data.

- ``schedules``: step size, alpha and beta as functions of the number of updates.
- ``values``: how gradients are made, and numbers that every dtype holds.
- ``case``: one run, with its name and version; JSON and back.
- ``families``: all cases, by family and by name.
"""

from innaprop_conformance.cases.case import Case, Gap, Group, flat
from innaprop_conformance.cases.families import CASES, FAMILIES, few, select, some
from innaprop_conformance.cases.schedules import Schedule
from innaprop_conformance.cases.values import Array, Gradients

__all__ = [
    "CASES",
    "FAMILIES",
    "Array",
    "Case",
    "Gap",
    "Gradients",
    "Group",
    "Schedule",
    "few",
    "flat",
    "select",
    "some",
]
