"""The worker process of one backend: ``python -m innaprop_conformance.faults.worker``.

It reads a line ``{"backend": name, "faults": [...], "updates": n, "seeds": n, "truths": folder or
null}``. It answers ``{"fault": name, "catch": object or null, "error": text or null}`` for every
fault, and ``{"run": text or null}`` for every run without a fault.
"""

import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from innaprop_conformance.faults.fault import Fault
from innaprop_conformance.faults.hunt import Hunter, told
from innaprop_conformance.processes import answers


def main() -> None:
    """Run the job read from standard input."""
    job = json.loads(sys.stdin.readline())
    say = answers()
    truths = job["truths"] and Path(job["truths"])
    hunter = Hunter(job["backend"], job["updates"], truths)
    cases = []
    for values in job["faults"]:
        fault = Fault.from_dict(values)
        catch, failure = None, None
        try:
            catch = hunter.hunt(fault)
        except Exception as error:
            traceback.print_exc()
            failure = told(error)
        if catch:
            cases.append(catch.case)
        say({"fault": fault.name, "catch": catch and asdict(catch), "error": failure})
    for found in hunter.false_alarms(dict.fromkeys(cases), range(1, job["seeds"] + 1)):
        say({"run": found})


if __name__ == "__main__":
    main()
