"""Workers exchange messages with the suite, can be killed, and their deaths are explained."""

import sys

import pytest

from innaprop_conformance.processes import Worker

SOURCE = """
import json, os, sys, time
from innaprop_conformance.processes import answers
say = answers()
print("what a framework prints")
match sys.argv[1]:
    case "echo":
        say({"told": json.loads(sys.stdin.readline()), "set": os.environ["SET"]})
    case "die":
        say({"done": 1})
        sys.exit("no more")
    case "slow":
        for done in range(12):
            time.sleep(0.5)
            say({"done": done})
    case "hang":
        time.sleep(60)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "a_worker.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    return lambda *arguments, **options: Worker(
        "a_worker", *arguments, environment={"SET": "so"}, **options
    )


def test_it_answers_what_it_is_told_and_nothing_else_comes_between(worker):
    with worker("echo") as one:
        one.tell(["a", 1])
        assert list(one.answers()) == [{"told": ["a", 1], "set": "so"}]
        assert one.death() is None


def test_its_last_words_are_told(worker):
    with worker("die") as one:
        assert list(one.answers()) == [{"done": 1}]
        assert one.death() == "its process died with exit code 1: no more"
        one.tell("nobody reads this")


def test_one_that_hangs_is_ended(worker):
    with worker("hang", timeout=1) as one:
        assert list(one.answers()) == []
        assert one.death().startswith("its process was ended after 1 s without an answer")


def test_one_that_answers_now_and_then_may_take_longer(worker):
    with worker("slow", timeout=5) as one:
        assert len(list(one.answers())) == 12
        assert one.death() is None


def test_one_that_is_left_is_ended(worker):
    with worker("hang") as one:
        process = one._process
    assert process.poll() is not None
