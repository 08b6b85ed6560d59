"""Runs that move: begun in one framework, gone on with in another, held to one trajectory.

- ``player``: a training loop in one framework, which can be saved and loaded.
- ``numpy``, ``torch``, ``keras``, ``tensorflow``, ``optax``: the players.
- ``runs``: what is played, and the truth of it.
- ``worker``: the process of one player.
- ``matrix``: every player's first half, gone on with by every other, and the verdicts.
"""
