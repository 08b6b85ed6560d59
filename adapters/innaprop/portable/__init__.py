"""One portable state for every framework: written by one adapter, read by any other.

- ``api``: ``save_state``, ``load_state`` and ``read_state``, which find the optimizer's adapter.
- ``snapshot``: what a state is: NumPy arrays and numbers by parameter name, checked.
- ``file``: a state as a safetensors file.
- ``atomic``: a file that appears whole or not at all.
- ``fitting``: names, layouts and dtypes of one side made those of the other.
- ``reference``: the adapter of ``innaprop_core.INNAprop``; others stand in their framework's
  folder.
"""

from innaprop.portable.api import load_state, read_state, save_state
from innaprop.portable.snapshot import ParameterState, Snapshot

__all__ = ["ParameterState", "Snapshot", "load_state", "read_state", "save_state"]
