"""The conformance suite of INNAprop: does an implementation follow the ground truth?

- ``cases``: what every backend is asked to follow.
- ``truth``: the exact trajectory of a case, and the floor that float32 storage sets.
- ``judge``: the verdict on a backend's trajectory.
- ``backends``: the protocol of a backend, and the built-in ones.
- ``training``: a small network, trained alike in every framework.
- ``runner``: every backend in a process of its own.
- ``expectations``: what is expected to fail, and why.
- ``cli``: the command ``innaprop-conformance``.
"""

__version__ = "2.1"
"""Of the suite: what it asks, and how it judges. Results of one version compare with each other."""
