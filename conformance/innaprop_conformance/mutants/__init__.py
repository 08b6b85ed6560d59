"""Mutation testing: generates faults automatically, and finds out whether they are caught.

The faults in ``innaprop_conformance.faults`` were thought of by somebody. Here, operators make
every small change of a source that they can: of a sign, a comparison, a constant, a branch or an
argument. A sample of these mutants is given to two judges, the suite and the project's tests; the
mutants that neither catches are listed::

    python -m innaprop_conformance.mutants tests/conformance/mutants.toml --results mutants.jsonl

- ``operators``, ``tokens``: all changes of a source, in Python and in C.
- ``plan``: a TOML file that assigns backends and tests to source files.
- ``mutant``: one change of one file.
- ``tracer``, ``reach``, ``lines``: line coverage of backends and test files.
- ``sampling``: a sample that is spread over files, functions and operators.
- ``suite``, ``worker``: the suite as a judge.
- ``checkout``, ``tests``, ``plugin``: the tests as a judge, in a copy of the checkout.
- ``campaign``: runs the judges on the mutants.
- ``results``: a file of results, with which an interrupted run can be resumed.
- ``tables``: the tables of results.
"""
