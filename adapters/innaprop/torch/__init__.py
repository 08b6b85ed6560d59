"""INNAprop as a ``torch.optim.Optimizer``."""

from innaprop.torch.optimizer import INNAprop

__all__ = ["INNAprop"]
