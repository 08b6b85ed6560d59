"""Faults that are seeded into an adapter, to see whether the suite catches them.

A suite that lets a wrong adapter pass is worth nothing, and nobody sees it. So faults are put
into copies of the adapters' sources, one at a time, and each has to be caught. They are data: a
TOML file has a table ``[[fault]]`` for each, with a text of the source and what stands in its
place. Whoever registers a backend of their own can seed faults into it likewise::

    python -m innaprop_conformance.faults my_faults.toml

- ``fault``: what a fault is, and how its file is read.
- ``seeding``: a copy of the source with the fault in it, imported in place of the source.
- ``hunt``: which case catches it, at which update; and whether healthy adapters pass.
- ``worker``: the process of one backend.
- ``run``: every backend's faults, some processes at a time.
- ``tables``: what came of it.
"""
