"""The conformance suite of INNAprop: does an implementation follow the ground truth?

- ``cases``: what every backend is asked to follow.
- ``truth``: the exact trajectory of a case, and the floor that float32 storage sets.
- ``judge``: the verdict on a backend's trajectory.
- ``backends``: the protocol of a backend, and the built-in ones.
- ``training``: a small network, trained alike in every framework.
- ``runner``: every backend in a process of its own.
- ``cli``: the command ``innaprop-conformance``.
"""
