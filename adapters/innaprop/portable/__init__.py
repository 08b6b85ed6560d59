"""A portable state for every framework: written by one adapter, read by any other.

- ``api``: ``save_state``, ``load_state`` and ``read_state``, which find the optimizer's adapter.
- ``snapshot``: the portable state: checked NumPy arrays and numbers by parameter name.
- ``file``: a state as a safetensors file.
- ``atomic``: atomic writes.
- ``fitting``: converts names, layouts and dtypes.
- ``reference``: the adapter of ``innaprop_core.INNAprop``; the others are in their framework's
  folder.
"""

from innaprop.portable.api import load_state, read_state, save_state
from innaprop.portable.snapshot import ParameterState, Snapshot

__all__ = ["ParameterState", "Snapshot", "load_state", "read_state", "save_state"]
