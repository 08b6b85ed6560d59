"""Diagnostics during a run: measurements of updates, and recognition of failing runs."""

from innaprop.diagnostics.record import Group, Record
from innaprop.diagnostics.recorder import Diagnostics, DiagnosticsWarning
from innaprop.diagnostics.signatures import Finding, find
from innaprop.diagnostics.writers import CSV, TensorBoard

__all__ = [
    "CSV",
    "Diagnostics",
    "DiagnosticsWarning",
    "Finding",
    "Group",
    "Record",
    "TensorBoard",
    "find",
]
