"""The worker process of one backend: ``python -m innaprop_conformance.mutants.worker``.

It reads a line ``{"backend": name, "updates": n, "truths": folder or null}``, and then either
``{"follow": n}``, to run the first and the last case of each family for n updates, or a line for
each mutant: ``{"fault": object, "seconds": n}``. It answers each mutant by ``{"catch": object or
null, "late": text or null, "unwell": text or null}``. "unwell" means that the backend now fails
without the mutant too, so that it needs a new process.
"""

import json
import sys
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from innaprop_conformance.backends import load_backend
from innaprop_conformance.faults.fault import Fault
from innaprop_conformance.faults.hunt import Catch, Hunter, told
from innaprop_conformance.faults.seeding import changed
from innaprop_conformance.processes import answers


def main() -> None:
    """Run the jobs read from standard input."""
    job = json.loads(sys.stdin.readline())
    say = answers()
    hunter = Hunter(job["backend"], job["updates"], job["truths"] and Path(job["truths"]))
    for line in sys.stdin:
        message = json.loads(line)
        if "follow" in message:
            follow_some(job["backend"], message["follow"])
            say({})
        else:
            say(judged(hunter, Fault.from_dict(message["fault"]), message["seconds"]))


def follow_some(name: str, updates: int) -> None:
    """Run the first and the last case of each family, in every dtype."""
    backend = load_backend(name)()
    for dtype in backend.dtypes:
        asked = backend.asked(backend.cases(), dtype).values()
        first = {case.family: case for case in reversed(asked)}
        last = {case.family: case for case in asked}
        for case in dict.fromkeys([*first.values(), *last.values()]):
            try:
                backend.follow(replace(case, steps=min(updates, case.steps)), dtype)
            except Exception:
                traceback.print_exc()  # A shortened case may fail; its lines count all the same.


def judged(hunter: Hunter, fault: Fault, seconds: float) -> dict[str, Any]:
    """Return the answer for one mutant."""
    changed(fault)  # Raises if the mutant does not fit, which must not count as a catch.
    catch, late = None, None
    try:
        catch = hunter.hunt(fault, seconds)
    except TimeoutError as error:
        late = str(error)
    except Exception as error:
        traceback.print_exc()
        catch = Catch("", "", None, told(error))
    return {"catch": catch and asdict(catch), "late": late, "unwell": _unwell(hunter, catch)}


def _unwell(hunter: Hunter, catch: Catch | None) -> str | None:
    """Return what is wrong without the mutant, such as its traces in a framework; or None."""
    if catch is None or not catch.case:
        return None
    try:
        return next(filter(None, hunter.false_alarms([catch.case], [])), None)
    except Exception as error:
        return told(error)


if __name__ == "__main__":
    main()
