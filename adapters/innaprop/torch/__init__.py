"""INNAprop as a ``torch.optim.Optimizer``."""

from innaprop.extras import Extra

with Extra("torch"):
    from innaprop.torch.optimizer import INNAprop

__all__ = ["INNAprop"]
