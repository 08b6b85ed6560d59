"""INNAprop as a ``keras.optimizers.Optimizer``, on every Keras backend."""

from innaprop.extras import extra, keras_backend

with extra("keras"), keras_backend():
    from innaprop.keras.diagnostics import Diagnostics
    from innaprop.keras.optimizer import INNAprop

__all__ = ["Diagnostics", "INNAprop"]
