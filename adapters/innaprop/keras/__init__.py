"""INNAprop as a ``keras.optimizers.Optimizer``, on every Keras backend."""

from innaprop.extras import Extra, KerasBackend

with Extra("keras"), KerasBackend():
    from innaprop.keras.diagnostics import Diagnostics
    from innaprop.keras.optimizer import INNAprop

__all__ = ["Diagnostics", "INNAprop"]
