"""A run is found again by all of its configuration, and nothing that was written is lost."""

import json

import pytest

from evidence.store import Results, Run, key_of

RUN = Run({"lr": 1e-3, "seed": 0}, {"loss": 0.5}, 1.0, "here")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "results.jsonl"


def test_a_run_is_found_again(path):
    Results(path).add(RUN)
    again = Results(path)
    assert RUN.config in again
    assert again[RUN.config] == RUN.result
    assert list(again) == [RUN]


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 1.1e-3}, {"test": True}])
def test_any_change_makes_another_run(path, change):
    results = Results(path)
    results.add(RUN)
    assert {**RUN.config, **change} not in results


def test_the_order_of_the_options_does_not_count():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_a_torn_line_costs_its_run_only(path):
    results = Results(path)
    results.add(RUN)
    with path.open("a") as file:
        file.write('{"key": "torn", "config": {"l')
    other = RUN._replace(config={"seed": 5})
    Results(path).add(other)
    assert [run.config for run in Results(path)] == [RUN.config, other.config]


def test_a_number_that_json_does_not_have_is_refused(path):
    with pytest.raises(ValueError, match="JSON"):
        Results(path).add(RUN._replace(result={"loss": float("nan")}))
    assert not path.exists() or not path.read_text()


def test_a_line_says_what_made_it(path):
    Results(path).add(RUN)
    assert json.loads(path.read_text())["machine"] == "here"
