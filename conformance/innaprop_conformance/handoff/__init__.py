"""Runs that move: begun in one framework, gone on with in another, held to one trajectory.

- ``loop``: a training loop in one framework, which can be saved and loaded.
- ``numpy``, ``torch``, ``keras``, ``tensorflow``, ``optax``: the training loops.
- ``runs``: the runs, and their ground truths.
- ``worker``: the process of one training loop.
- ``matrix``: the first half of every training loop, continued by every other, and the verdicts.
"""
