"""INNAprop for PyTorch, Keras 3, TensorFlow and JAX.

The optimizer of Bolte, Boustany, Pauwels and Purica, arXiv 2410.05871. One module per
framework, each imported on first access:

- ``innaprop.torch.INNAprop``, a ``torch.optim.Optimizer``;
- ``innaprop.keras.INNAprop``, a ``keras.optimizers.Optimizer`` for every Keras backend;
- ``innaprop.tensorflow.INNAprop``, a ``tf.Module`` that needs no Keras;
- ``innaprop.optax.innaprop``, an ``optax.GradientTransformation`` for JAX.

``FAST_TRAINING`` and ``BEST_ACCURACY`` are the paper's two choices of (alpha, beta):
``INNAprop(params, **innaprop.FAST_TRAINING)``.

``innaprop.diagnostics`` measures what the updates of a run do and recognises failing runs.

``plan`` predicts what a run's hyperparameters will do, compared with AdamW.

``save_state`` and ``load_state`` move a run from one framework to another; ``read_state`` returns
the content of a file. ``__version__`` is the version of the installed package, or "0+unknown" if
none is installed.
"""

import importlib
import inspect
from importlib import metadata
from types import ModuleType

from innaprop import diagnostics
from innaprop.planning import plan
from innaprop.portable import load_state, read_state, save_state
from innaprop_core import BEST_ACCURACY, FAST_TRAINING

__all__ = [
    "BEST_ACCURACY",
    "FAST_TRAINING",
    "__version__",
    "diagnostics",
    "keras",
    "load_state",
    "optax",
    "plan",
    "read_state",
    "save_state",
    "tensorflow",
    "torch",
]


try:
    __version__ = metadata.version("innaprop")
except metadata.PackageNotFoundError:  # Imported from a source folder.
    __version__ = "0+unknown"


def __getattr__(name: str) -> ModuleType:
    if name in ("keras", "optax", "tensorflow", "torch"):
        return importlib.import_module(f"innaprop.{name}")
    if name == "INNAprop":
        # `from innaprop import INNAprop` would replace the message of an AttributeError by its own,
        # so the import system gets an ImportError. getattr gets an AttributeError as usual.
        frame = inspect.currentframe()
        caller = frame.f_back.f_globals.get("__name__") if frame and frame.f_back else None
        message = (
            "INNAprop is one class for each framework: import it from innaprop.torch, "
            "innaprop.keras or innaprop.tensorflow; for JAX there is innaprop.optax.innaprop"
        )
        if caller == "importlib._bootstrap":
            raise ImportError(message, name="innaprop")
        raise AttributeError(message, name=name)
    raise AttributeError(f"module 'innaprop' has no attribute {name!r}")
