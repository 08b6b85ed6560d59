"""The process of one backend: ``python -m innaprop_conformance.faults.worker``.

Standard input is one JSON object: ``{"backend": name, "faults": [...], "updates": n, "seeds": n,
"truths": folder}``. Standard output carries one JSON object per line: ``{"fault": name, "catch":
object or null, "error": text or null}`` for every fault, ``{"run": text or null}`` for every run
without one. What frameworks print goes to standard error.
"""

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from innaprop_conformance.faults.fault import Fault
from innaprop_conformance.faults.hunt import Hunter


def main() -> None:
    """Do what standard input says."""
    job = json.load(sys.stdin)
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=channel)

    hunter = Hunter(job["backend"], job["updates"], Path(job["truths"]))
    cases = []
    for values in job["faults"]:
        fault = Fault.from_dict(values)
        catch, failure = None, None
        try:
            catch = hunter.hunt(fault)
        except Exception as error:
            traceback.print_exc()
            lines = [line for line in str(error).splitlines() if line.strip()]
            failure = ": ".join([type(error).__name__, *lines[-1:]])
        if catch:
            cases.append(catch.case)
        say({"fault": fault.name, "catch": catch and asdict(catch), "error": failure})
    for found in hunter.false_alarms(dict.fromkeys(cases), range(1, job["seeds"] + 1)):
        say({"run": found})


if __name__ == "__main__":
    main()
