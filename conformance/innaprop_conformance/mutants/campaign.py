"""A run of mutation testing: samples mutants, and has them judged."""

import fnmatch
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from innaprop_conformance.backends import Backend
from innaprop_conformance.mutants.checkout import Checkout
from innaprop_conformance.mutants.lines import KeptLines
from innaprop_conformance.mutants.mutant import Mutant, compiles, mutants_of
from innaprop_conformance.mutants.plan import Plan, Run, Target, Unseen
from innaprop_conformance.mutants.reach import Lines, is_reached, places_of
from innaprop_conformance.mutants.results import SUITE, TESTS, Results
from innaprop_conformance.mutants.sampling import sample
from innaprop_conformance.mutants.suite import SuiteJudge
from innaprop_conformance.mutants.tests import File, covering_runs, judged
from innaprop_conformance.truths import truths_folder


@dataclass
class Campaign:
    """Samples the mutants of some targets, and has them judged.

    Args:
        plan: The project's plan.
        targets: The targets of the plan to mutate.
        backends: Backends that can run here, by name.
        root: Folder of the checkout.
        results: Gets the results.
        lines_file: Cache file of the line coverage.
        judges: ``SUITE``, ``TESTS`` or both.
        jobs: Number of processes at a time.
        seconds: Time limit of a backend for a mutant.
        test_seconds: Time limit of a run of tests for a mutant.
        told: Called with a line of text for every step.
    """

    plan: Plan
    targets: Sequence[Target]
    backends: Mapping[str, type[Backend]]
    root: Path
    results: Results
    lines_file: Path
    judges: Collection[str]
    jobs: int
    seconds: float
    test_seconds: float
    told: Callable[[str], None]

    def chosen(self, number: int, seed: int) -> list[Mutant]:
        """Return a sample of each target's mutants, among those that a judge executes.

        Raises:
            RuntimeError: The process of a backend died without a mutant.
        """
        found: list[Mutant] = []
        for target in self.targets:
            candidates = [m for m in mutants_of(target) if self._is_covered(m)]
            self.told(f"{target.name}: {len(candidates)} mutants in lines that a judge executes")
            while True:
                some = sample(candidates, number, seed, self.results.mutants)
                bad = {m.id for m in some if not compiles(m, self._unseen(m).compiles)}
                if not bad:
                    break
                candidates = [m for m in candidates if m.id not in bad]
            found += some
        return found

    def reaching(self, mutant: Mutant) -> list[str]:
        """Return the backends that execute a mutant's lines, in the plan's order."""
        unseen = self._unseen(mutant).backends
        return [
            name
            for name in self._backends_of(mutant)
            if name in unseen or is_reached(mutant, self._lines[name])
        ]

    def ask_suite(self, mutants: Sequence[Mutant]) -> None:
        """Judge mutants by one backend after another, each mutant until a backend catches it."""
        reaching = {mutant.id: self.reaching(mutant) for mutant in mutants}
        with tempfile.TemporaryDirectory() as cache:
            truths, folder = truths_folder(), Path(cache).resolve()
            judge = SuiteJudge(truths, folder, self.seconds, self.jobs)
            for name in self.plan.backends:
                rest = [
                    mutant
                    for mutant in mutants
                    if name in reaching[mutant.id]
                    and not self.results.caught(mutant, SUITE)
                    and name not in self.results.asked(mutant, SUITE)
                ]
                if rest:
                    self.told(f"{name} is asked about {len(rest)} mutants")
                    environment = self.backends[name].environment
                    judge.ask(name, environment, rest, self._note_of_suite)

    def ask_tests(self, mutants: Sequence[Mutant]) -> None:
        """Judge each mutant by the tests that execute its lines, until one fails."""
        todo = [mutant for mutant in mutants if not self.results.caught(mutant, TESTS)]
        self.told(f"the tests are asked about {len(todo)} mutants")
        with ExitStack() as stack, ThreadPoolExecutor(self.jobs) as pool:
            free: SimpleQueue[Checkout] = SimpleQueue()
            for _ in range(self.jobs):
                free.put(stack.enter_context(self._new_checkout()))

            def ask_about(mutant: Mutant) -> None:
                checkout = free.get()
                try:
                    self._ask_tests_about(mutant, checkout)
                finally:
                    free.put(checkout)

            list(pool.map(ask_about, todo))

    def _ask_tests_about(self, mutant: Mutant, checkout: Checkout) -> None:
        runs = {name: run for name, run in self._runs.items() if name in self._tests_of(mutant)}
        for run, files in covering_runs(mutant, self._files, runs, self._unseen(mutant).tests):
            if self.results.caught(mutant, TESTS):
                break
            if run.name not in self.results.asked(mutant, TESTS):
                outcome = judged(mutant, run, files, checkout, self.test_seconds)
                self._note(mutant, TESTS, run.name, outcome)

    def _note_of_suite(self, mutant: Mutant, name: str, outcome: dict[str, Any]) -> None:
        self._note(mutant, SUITE, name, outcome)

    def _note(self, mutant: Mutant, judge: str, by: str, outcome: dict[str, Any]) -> None:
        self.results.add(mutant, judge, by, outcome)
        how = outcome["caught"] or outcome["late"] or "not caught"
        where = f"{mutant.file}:{mutant.change.line} ({mutant.id})"
        self.told(f"  {where} {by}: {how} [{outcome['seconds']} s]")

    def _is_covered(self, mutant: Mutant) -> bool:
        if self.reaching(mutant):
            return True
        if TESTS not in self.judges:
            return False
        runs = {name: self._runs[name] for name in self._tests_of(mutant)}
        return any(covering_runs(mutant, self._files, runs, self._unseen(mutant).tests))

    def _unseen(self, mutant: Mutant) -> Unseen:
        found = (unseen for unseen in self.plan.unseen if unseen.file == mutant.file)
        return next(found, Unseen(mutant.file))

    def _backends_of(self, mutant: Mutant) -> list[str]:
        (patterns,) = (t.backends for t in self.targets if t.name == mutant.target)
        return [name for name in self._backends if any(_match(name, p) for p in patterns)]

    def _tests_of(self, mutant: Mutant) -> tuple[str, ...]:
        (tests,) = (t.tests for t in self.targets if t.name == mutant.target)
        return tests

    @cached_property
    def _backends(self) -> list[str]:
        patterns = [pattern for target in self.targets for pattern in target.backends]
        return [
            name
            for name in self.plan.backends
            if name in self.backends and any(_match(name, p) for p in patterns)
        ]

    @cached_property
    def _kept(self) -> KeptLines:
        packages = frozenset(self._places)
        return KeptLines(self.lines_file, packages, self.told)

    @cached_property
    def _places(self) -> dict[str, Path]:
        # The packages of all targets, since coverage is cached for all of them.
        files = [file for target in self.plan.targets for file in target.files]
        return places_of(frozenset(file.partition("/")[0] for file in files))

    @cached_property
    def _lines(self) -> dict[str, Lines]:
        return {name: self._kept.of_backend(name, self.backends[name]) for name in self._backends}

    @cached_property
    def _runs(self) -> dict[str, Run]:
        return {run.name: run for run in self.plan.runs}

    @cached_property
    def _files(self) -> list[File]:
        names = dict.fromkeys(name for target in self.targets for name in target.tests)
        with self._new_checkout() as checkout:
            return [f for name in names for f in self._kept.of_tests(self._runs[name], checkout)]

    def _new_checkout(self) -> Checkout:
        return Checkout(self.root, self._places)


def processors() -> int:
    """Return the default number of processes at a time."""
    return os.cpu_count() or 1


def survivors_of(mutants: Sequence[Mutant], results: Results) -> Iterator[Mutant]:
    """Yield the mutants that the suite did not catch."""
    return (mutant for mutant in mutants if not results.caught(mutant, SUITE))


def _match(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)
