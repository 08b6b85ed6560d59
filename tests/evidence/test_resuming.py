"""Stopped and started again, the runs go on from where they were."""

from evidence.experiment import Experiment, Scale
from evidence.experiments import EXPERIMENTS
from evidence.runner import repeat, run_all
from evidence.store import Results

SMOKE = Scale("smoke")


def only(experiment, wanted):
    """Return an experiment that plans but those runs that are wanted."""

    def plan(scale, done):
        return [run for run in experiment.plan(scale, done) if wanted(run)]

    return Experiment(experiment.name, "", "", plan, experiment.run)


def test_what_is_done_is_not_made_again(tmp_path):
    paths = {"step lengths", "damping"}
    some = only(EXPERIMENTS["mechanism"], lambda run: run["what"] == "step lengths")
    assert run_all([some], SMOKE, tmp_path)
    path = tmp_path / "mechanism.smoke.jsonl"
    before = path.read_text()
    assert before.count("\n") == 3
    more = only(EXPERIMENTS["mechanism"], lambda run: run["what"] in paths)
    assert run_all([more], SMOKE, tmp_path)
    assert path.read_text().startswith(before)
    assert path.read_text().count("\n") == 7
    assert all(same for _, same in repeat(list(Results(path))[:2]))


def test_when_the_time_is_over_it_stops(tmp_path):
    assert not run_all([EXPERIMENTS["mechanism"]], SMOKE, tmp_path, seconds=0.0)
    assert not (tmp_path / "mechanism.smoke.jsonl").exists()


def test_a_run_that_fails_is_told_of_and_stops_no_other(tmp_path, capsys):
    def plan(scale, done):
        good = [{"experiment": "mechanism", "what": "step lengths", "lr": 1e-3}]
        good = [{**good[0], "alpha": 1.0, "beta": 1.0, "steps": 10}]
        return [run for run in [{"experiment": "mechanism", "what": "?"}, *good] if run not in done]

    assert not run_all([Experiment("mechanism", "", "", plan, print)], SMOKE, tmp_path)
    assert "KeyError('?')" in capsys.readouterr().err
    assert len(Results(tmp_path / "mechanism.smoke.jsonl")) == 1
