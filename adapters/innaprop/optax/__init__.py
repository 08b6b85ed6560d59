"""INNAprop as an optax ``GradientTransformation``."""

from innaprop.optax.transformation import INNApropState, innaprop, master_weights, psi

__all__ = ["INNApropState", "innaprop", "master_weights", "psi"]
