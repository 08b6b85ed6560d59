"""INNAprop as an optax ``GradientTransformation``."""

from innaprop.extras import extra

with extra("optax", ("optax", "jax")):
    from innaprop.optax.diagnostics import measure
    from innaprop.optax.transformation import INNApropState, innaprop, master_weights, psi

__all__ = ["INNApropState", "innaprop", "master_weights", "measure", "psi"]
