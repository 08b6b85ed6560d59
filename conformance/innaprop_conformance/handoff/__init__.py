"""Runs that start in one framework and continue in another, judged as one trajectory.

- ``loop``: the interface of a training loop in one framework.
- ``numpy``, ``torch``, ``keras``, ``tensorflow``, ``optax``: the training loops.
- ``runs``: the runs, and their ground truths.
- ``worker``: the process of one training loop.
- ``matrix``: every training loop continues the runs of every other, with verdicts.
"""
