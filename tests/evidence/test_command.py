"""The command does with result files what it says."""

from click.testing import CliRunner

from evidence.command import main
from evidence.store import Results, Run


def test_runs_of_another_machine_are_gathered(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, seeds in ((here, (0, 1)), (there, (1, 2))):
        for seed in seeds:
            run = Run({"seed": seed}, {"loss": 1.0}, 1.0, folder.name)
            Results(folder / "some.jsonl").add(run)
    done = CliRunner().invoke(main, ["gather", str(there), "--out", str(here)])
    assert done.output == "some.jsonl: 1 runs taken\n"
    assert [(run.config["seed"], run.machine) for run in Results(here / "some.jsonl")] == [
        (0, "here"),
        (1, "here"),
        (2, "there"),
    ]


def test_an_unknown_experiment_is_refused():
    done = CliRunner().invoke(main, ["run", "-e", "nothing"])
    assert done.exit_code == 2
    assert "choose from mechanism, " in done.output
