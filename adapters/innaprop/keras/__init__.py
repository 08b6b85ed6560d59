"""INNAprop as a ``keras.optimizers.Optimizer``, on every Keras backend."""

from innaprop.extras import Extra

with Extra("keras"):
    from innaprop.keras.diagnostics import Diagnostics
    from innaprop.keras.optimizer import INNAprop

__all__ = ["Diagnostics", "INNAprop"]
