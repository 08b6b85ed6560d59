"""Fault injection: seeds faults into adapters, to test whether the suite catches them.

Faults are seeded into copies of the sources, one at a time, and the suite must catch each. They are
data: a TOML file has a table ``[[fault]]`` for each, with a text of the source and its replacement.
Faults can be seeded into any registered backend::

    python -m innaprop_conformance.faults my_faults.toml

- ``fault``: the class of a fault, and the files of faults.
- ``seeding``: imports a copy of the source with the fault in place of the source.
- ``hunt``: finds the case that catches a fault; runs healthy adapters for false alarms.
- ``worker``: the process of one backend.
- ``run``: runs the workers of all backends.
- ``tables``: the tables of results.
"""
