"""Mutation tests: faults that operators make, not authors, and who catches them.

Seeded faults are those that somebody thought of. Here operators change one thing in a source,
wherever that can be done: a sign, a comparison, a constant, a branch, an argument. A sample of
these mutants is given to two judges, the suite and the project's tests; what neither catches is
listed::

    python -m innaprop_conformance.mutants tests/conformance/mutants.toml --results mutants.jsonl

- ``operators``, ``tokens``: all changes of a source, in Python and in C.
- ``plan``: which files, backends and tests belong together: a TOML file.
- ``mutant``: one change, and the fault that it is for the suite.
- ``tracer``, ``reach``, ``lines``: which lines a backend and a test file come by.
- ``sampling``: a sample that is spread over files, functions and operators.
- ``suite``, ``worker``: the suite as the judge.
- ``checkout``, ``tests``, ``plugin``: the tests as the judge, in a copy of the checkout.
- ``campaign``: who is asked about which mutants.
- ``results``: a file of what was found, with which a run goes on.
- ``tables``: what came of it.
"""
