"""The conformance suite of INNAprop: does an implementation follow the exact trajectory?

- ``cases``: the test cases.
- ``truth``: the exact trajectory of a case, and the tolerance of each dtype.
- ``judge``: the verdict on a backend's trajectory.
- ``backends``: the protocol of a backend, and the built-in backends.
- ``training``: a small network, trained in the same way in every framework.
- ``runner``: runs every backend in its own process.
- ``expectations``: expected failures, with reasons.
- ``cli``: the command ``innaprop-conformance``.
"""

__version__ = "2.3"
"""Version of the cases and of the tolerances. Only results of the same version are comparable."""
