"""Studies from end to end: resume, failures, figures, and results that depend on no process."""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import pytest
from scipy import stats

from snndelay.errors import DataError
from snndelay.runs import audio, study
from snndelay.runs.cli import main
from snndelay.runs.files import read_json
from snndelay.runs.flat import from_flat
from snndelay.runs.grid import cells_of, check_effects
from snndelay.runs.presets import PRESETS
from snndelay.runs.report import read_lines, read_metrics
from snndelay.runs.studies import STUDIES
from snndelay.runs.study_options import parse_study
from snndelay.runs.training import fit

from ...helpers_training import ROOT, TINY, TINY_OPTIONS, call
from ...helpers_workers import any_of_group

GRID = ("--grid", "delays=learned,fixed", "--grid", "seed=0,1")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_picture(monkeypatch):
    monkeypatch.setattr("snndelay.runs.plots.study.draw_study", lambda *_: None)


@pytest.fixture
def trained(monkeypatch):
    """Names of the runs that are trained, in their order."""
    names = []

    def counted(flat, **rest):
        names.append(flat["run"])
        return fit(flat, **rest)

    monkeypatch.setattr(study, "fit", counted)
    return names


def command(files, *argv, out="a"):
    """Exit code, stdout and stderr of a study of tiny runs in this process."""
    options = ["--test-file", files[1], "--out", out, "--processes", 1, *TINY_OPTIONS]
    return call(main, "study", files[0], *options, *argv)


def results(folder):
    """Run -> its line of results.jsonl, without the time it took."""
    lines = read_lines(folder / "results.jsonl")
    return {line["run"]: {k: v for k, v in line.items() if k != "seconds"} for line in lines}


def test_a_study_says_what_its_runs_say(files, tmp_path):
    grid = ("--grid", "delays=learned,fixed,none", "--grid", "n_layers=1,2")
    options = ["--epochs", 1, "--n-hidden", 8, "--units-per-channel", 70, "--n-steps", 20]
    options += ["--test-file", files[1], "--out", "a", "--processes", 1, "--grid", "seed=0,1,2"]
    code, out, err = call(main, "study", files[0], *grid, *options)
    assert (code, err) == (0, "")
    assert "18 cells, 18 runs, 0 of them finished" in out and "18 / 18 done: " in out
    assert "about" in out and "epoch" not in out, "the trainings are not silent"
    found = results(tmp_path / "a")
    for run, line in found.items():
        summary = read_json(tmp_path / "a/runs" / run / "summary.json")
        assert line["accuracy"] == summary["test_accuracy"] and summary["n_test"] == line["n"] == 6
        assert "epoch 1/1" in (tmp_path / "a/runs" / run / "train.log").read_text()
    assert (tmp_path / "a/study.png").stat().st_size > 10_000


PAIRS = {("learned", "fixed"), ("learned", "none"), ("fixed", "none")}


def test_tables_are_made_of_the_accuracies_of_the_runs(files, tmp_path, no_picture):
    grid = ("--grid", "delays=learned,fixed,none", "--grid", "max_delay_steps=3,5")
    words = " ".join(map(str, TINY_OPTIONS)).replace("--max-delay-steps 5", "").split()
    words += ["--test-file", files[1], "--out", "a", "--processes", 1, "--grid", "seed=0,1,2"]
    assert call(main, "study", files[0], *grid, *words)[0] == 0
    by = {}
    for line in results(tmp_path / "a").values():
        delays, taps = (line["settings"].get(axis) for axis in ("delays", "max_delay_steps"))
        for each in (3, 5) if taps is None else (taps,):
            by.setdefault((delays, each), []).append(line["accuracy"])
    with (tmp_path / "a/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    text = (tmp_path / "a/table.md").read_text()
    assert len(rows) == 6 and "| none | – | 3 |" in text, "a shared run does not stand once"
    for row in rows:
        kind, taps = row["delays"], int(row["max_delay_steps"])
        ours = by[kind, taps]
        assert row["no_effect"] == ("max_delay_steps" if kind == "none" else "")
        assert float(row["accuracy"]) == pytest.approx(statistics.mean(ours))
        assert float(row["standard_error"]) == pytest.approx(stats.sem(ours))
        for other in ("fixed", "none"):
            gap, p = row[f"minus_{other}"], row[f"p_against_{other}"]
            if (kind, other) not in PAIRS:
                assert gap == p == ""
                continue
            theirs = by[other, taps]
            assert float(gap) == pytest.approx(statistics.mean(ours) - statistics.mean(theirs))
            moments = [f(x) for x in (ours, theirs) for f in (statistics.mean, stats.tstd, len)]
            want = stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue
            assert float(p) == pytest.approx(want)
            assert f"{100 * float(gap):+.1f} (p = {want:.3f})" in text


def test_a_cell_is_what_train_py_trains(files, tmp_path, no_picture):
    command(files, "--grid", "delays=fixed", "--grid", "seed=3")
    (line,) = results(tmp_path / "a").values()
    flat = {**TINY, "dataset": files[0], "test_file": files[1], "delays": "fixed", "seed": 3}
    preset = {k: v for k, v in PRESETS["audio-small"].items() if k not in ("n_in", "n_out")}
    summary = fit(preset | flat | {"runs": "b", "run": "b"}, draw=False)
    last = read_metrics(tmp_path / "b/b/metrics.jsonl")[-1]
    assert (line["accuracy"], line["loss"]) == (summary["test_accuracy"], last["loss"])
    assert line["parameters"] == summary["parameters"] and line["n_classes"] == 3


def test_two_processes_find_what_one_does(files, tmp_path, no_picture):
    assert command(files, *GRID[:2], out="one")[0] == 0
    code, out, err = command(files, *GRID[:2], "--processes", 2, out="two")
    assert (code, err) == (0, "")
    assert "epoch" not in out, "the processes are not silent"
    assert results(tmp_path / "two") == results(tmp_path / "one")
    one, two = ((tmp_path / name / "table.csv").read_text() for name in ("one", "two"))
    assert one == two
    logs = list((tmp_path / "two/runs").glob("*/train.log"))
    assert len(logs) == 2 and all("test accuracy" in log.read_text() for log in logs)


def test_a_stopped_study_goes_on_with_the_rest(files, tmp_path, monkeypatch, trained, no_picture):
    assert command(files, *GRID, out="whole")[0] == 0
    trained.clear()
    train_epoch, calls = audio.train_epoch, []

    def interrupted(*argv):
        calls.append(1)
        if len(calls) == 6:  # the second epoch of the third run
            raise KeyboardInterrupt
        return train_epoch(*argv)

    monkeypatch.setattr(audio, "train_epoch", interrupted)
    code, out, err = command(files, *GRID)
    assert code == 130 and len(err.splitlines()) == 1
    assert "stopped; 2 of 4 runs are finished, go on with: snndelay study --resume a" in err
    assert "| learned | 1 |" in (tmp_path / "a/table.md").read_text()
    first = len(trained)
    with (tmp_path / "a/results.jsonl").open("a") as file:
        file.write('{"run": "cut o')  # killed while it wrote
    code, out, err = call(main, "study", "--resume", "a", "--processes", "1")
    assert (code, err) == (0, "") and "4 runs, 2 of them finished" in out
    assert trained[first:] == ["delays=learned,seed=1", "delays=fixed,seed=1"]
    assert len(calls) == 9, "the epoch that was complete is trained again"
    assert results(tmp_path / "a") == results(tmp_path / "whole")
    trained.clear()
    code, out, err = command(files, *GRID)
    assert (code, trained) == (0, []) and "4 of them finished" in out


def test_a_run_whose_result_was_lost_is_not_trained_again(files, tmp_path, trained, no_picture):
    command(files, *GRID)
    path, before = tmp_path / "a/results.jsonl", results(tmp_path / "a")
    first, *others = path.read_text().splitlines()
    lost = json.loads(first)
    no_results = ["garbage", "7", "{}"]
    for key, value in (("settings", 1), ("n", 0), ("accuracy", "x"), ("accuracy", float("nan")),
                       ("accuracy", 1e308), ("n_classes", [1]), ("seed", None)):  # fmt: skip
        no_results.append(json.dumps(lost | {key: value}))
    for text in (None, "\n".join([*no_results, *others]), f"\0{first[3:]}\n{others[0]}"):
        path.write_text(text) if text else path.unlink()
        trained.clear()
        assert command(files, *GRID)[0] == 0
        assert results(tmp_path / "a") == before and trained == []
        assert len(path.read_text().splitlines()) == len(before), "a line stands twice"


@pytest.mark.parametrize(
    "change",
    [{"grid": g} for g in (1, None, "x", {"seed": 1}, {"seed": []}, [1])]
    + [{"preset": 3}, {"preset": {"a": 1}}, {"preset": "x"}, {"base": []}, {"base": {"a": 1}}],
)
def test_a_damaged_study_is_one_sentence(files, tmp_path, no_picture, change):
    assert command(files, "--grid", "seed=0")[0] == 0
    path = tmp_path / "a/study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    code, _, err = call(main, "study", "--resume", "a")
    assert code == 2 and len(err.splitlines()) == 1 and "Traceback" not in err, err


def test_a_failed_cell_is_named_and_the_others_go_on(files, tmp_path, monkeypatch, no_picture):
    def failing(flat, **rest):
        if flat["seed"] == 0 and flat["delays"] == "learned":
            raise DataError("its clips\nare gone")
        if flat["seed"] == 0:
            raise ValueError("a fault\nof ours")
        return fit(flat, **rest)

    monkeypatch.setattr(study, "fit", failing)
    code, out, err = command(files, *GRID)
    assert code == 1
    user, ours, last = err.splitlines()
    assert user == "failed: delays=learned, seed=0: its clips are gone"
    assert ours.startswith("failed: delays=fixed, seed=0: ValueError, a fault of ours (see a/runs/")
    assert last.startswith("error: 2 of 4 runs failed, see above; try them again with: snndelay st")
    assert "Traceback" in (tmp_path / "a/runs/delays=fixed,seed=0.log").read_text()
    assert {*results(tmp_path / "a")} == {"delays=learned,seed=1", "delays=fixed,seed=1"}
    assert "2 / 4 done" in out
    monkeypatch.setattr(study, "fit", fit)
    assert call(main, "study", "--resume", "a", "--processes", "1")[0] == 0
    assert len(results(tmp_path / "a")) == 4


def test_a_study_grows(files, tmp_path, trained, no_picture):
    one = ("--grid", "delays=fixed", "--epochs", 1)
    assert command(files, *one)[0] == 0
    assert command(files, *one, "--grid", "seed=1")[0] == 0
    assert read_json(tmp_path / "a/study.json")["grid"] == {"delays": ["fixed"], "seed": [0, 1]}
    assert trained == ["delays=fixed", "delays=fixed,seed=1"]
    code, _, err = command(files, "--grid", "delays=fixed")
    assert code == 2 and "a holds a study with epochs 1, not 2: choose another --out" in err
    code, _, err = command(files, *one, "--grid", "neuron=lif", "--seed", 1)
    assert code == 2 and "seed is an axis of the study in a: give --grid seed=1" in err
    assert len(trained) == 2 and "| fixed | 2 |" in (tmp_path / "a/table.md").read_text()


def refused():
    """Name -> (arguments behind the data, words of the sentence)."""
    return {
        "setting": (["--grid", "n_hiden=3"], "unknown setting 'n_hiden': did you mean n_hidden?"),
        "other kind": (["--grid", "aug_crop=3"], "aug_crop is for vision"),
        "value": (["--grid", "seed=0,x"], "--seed is x: give a value of type int"),
        "word": (["--grid", "delays=lerned"], "unknown delays 'lerned': did you mean learned?"),
        "empty axis": (["--grid", "delays="], "--grid delays= has no values"),
        "empty value": (["--grid", "seed=0,"], "--seed is empty"),
        "no axis": ([], "a study needs an axis"),
        "twice": (["--grid", "seed=1,1"], "axis seed has the value 1 twice"),
        "axis twice": (["--grid", "seed=1", "--grid", "seed=2"], "axis seed is given twice"),
        "how": (["--grid", "threads=1,2"], "threads changes no result"),
        "own": (["--grid", "seed=0", "--run", "x"], "a study sets run itself"),
        "range": (["--grid", "dropout=0,2"], "dropout is 2.0: choose a number"),
        "cell": (["--grid", "loss=tet,rate_cross_entropy"], "loss=rate_cross_entropy: loss rate"),
        "option": (["--grid", "seed=0", "--epocs", "3"], "did you mean --epochs?"),
        "processes": (["--grid", "seed=0", "--processes", "0"], "--processes is 0"),
        "preset": (["--grid", "seed=0", "--preset", "digts"], "did you mean digits?"),
        "named": (["--preset", "fan-in"], "study fan-in is of polychrony: leave out"),
        "no test": (["--grid", "seed=0", "--test-file", "null"], "add --test-file FILE.h5"),
        "no data": (["--grid", "seed=0", "--test-file", "none.h5"], "none.h5"),
        "foreign": (["--grid", "seed=0", "--out", "other"], "other is no study and not empty"),
    }


@pytest.mark.parametrize("case", refused())
def test_a_wrong_study_is_one_sentence(case, files, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x").touch()
    argv, words = refused()[case]
    code, out, err = command(files, *argv)
    assert code == 2 and out == "", out
    assert len(err.splitlines()) == 1 and words in err, err
    assert not (tmp_path / "a").exists() and len(list(tmp_path.glob("other/*"))) == 1


def test_one_command_at_a_time(files, tmp_path, no_picture):
    with study._alone_in(tmp_path / "a"):
        code, _, err = call(main, "study", "--resume", "a")
        assert code == 2 and "a is no study: looked for study.json" in err
    (tmp_path / "a/.lock").unlink()
    (tmp_path / "a/runs").rmdir()
    command(files, "--grid", "seed=0", "--epochs", 1)
    with study._alone_in(tmp_path / "a"):
        code, _, err = call(main, "study", "--resume", "a")
    assert code == 2 and "another command trains the study in a: wait for it" in err


def test_networks_that_cannot_be_are_named_before_the_first_run(files, tmp_path, no_picture):
    code, out, err = command(files, "--grid", "fan_in=2,5000", "--epochs", 1)
    assert code == 2 and "fan_in=5000: fan_in is 5000, and no hidden layer has more" in err, err
    assert "done" not in out and not (tmp_path / "a").exists()


def test_resume_takes_nothing_but_how(files, tmp_path, no_picture):
    command(files, "--grid", "seed=0", "--epochs", 1)
    for argv, words in (
        (["--grid", "seed=1"], "leave out --grid"),
        (["--epochs", "3"], "leave out --epochs"),
        ([files[0]], f"leave out {files[0]}"),
        (["--runs", "x"], "a study sets runs itself"),
    ):
        code, _, err = call(main, "study", "--resume", "a", *argv)
        assert code == 2 and words in err, err
    assert call(main, "study", "--resume", "a", "--device", "cpu")[0] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    code, _, err = call(main, "study", "--resume", "other")
    assert code == 2 and "other is no study: looked for study.json" in err, err
    code, _, err = call(main, "study", "--resume", "none")
    assert code == 2 and "none is no study: looked for study.json" in err


@pytest.mark.parametrize("name", STUDIES)
def test_named_studies_can_be_trained(name):
    assert name not in PRESETS, "--preset NAME would have two meanings"
    request = parse_study(["--preset", name])
    cells = cells_of(request.study.base, request.study.grid)
    check_effects(request.study.base, cells, request.given)
    for cell in cells:
        from_flat(cell.run.settings)
    assert str(request.out) == f"studies/{name}"
    code, out, _ = call(main, "study", "--list")
    assert code == 0 and name in out


def test_the_command_line_is_above_a_named_study():
    argv = ["--preset", "digits", "--epochs", "3", "--grid", "seed=7", "--n-hidden", "5"]
    made = parse_study([*argv, "--out", "x"])
    assert made.study.base["epochs"] == 3 and made.study.base["n_hidden"] == 5
    assert "n_hidden" not in made.study.grid and made.study.grid["seed"] == [7]
    assert made.study.grid["delays"] == ["learned", "fixed", "none"]
    axis = parse_study(["--preset", "digits", "--grid", "epochs=1,2"]).study
    assert axis.grid["epochs"] == [1, 2]


@pytest.mark.slow
def test_a_killed_study_leaves_no_process_and_goes_on(files, tmp_path):
    words = ["--test-file", files[1], "--out", "a", *TINY_OPTIONS, "--processes", "2", *GRID]
    start = [sys.executable, "-m", "snndelay", "study"]
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    whole = [*start, files[0], *words, "--epochs", "200"]
    process = subprocess.Popen(whole, env=here, stdout=subprocess.DEVNULL, start_new_session=True)
    while not list(tmp_path.glob("a/runs/*/last.pt")):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any_of_group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any_of_group(process.pid), "a worker outlives its study"
    run = subprocess.run([*start, "--resume", "a"], env=here, capture_output=True, text=True)
    assert run.returncode == 0 and "4 / 4 done" in run.stdout, run.stderr
    assert json.loads((tmp_path / "a/study.json").read_text())["base"]["epochs"] == 200
