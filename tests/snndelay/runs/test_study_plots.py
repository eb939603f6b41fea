"""The table and the picture of a study, from figures that are made up."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from snndelay.runs.flat import from_flat, to_flat
from snndelay.runs.grid import cells_of
from snndelay.runs.plots import study as plots
from snndelay.runs.statistics import half_interval, welch
from snndelay.runs.study_file import new_study
from snndelay.runs.study_table import accuracy_table, difference_table, groups_of, per_seed

from .test_audio_plots import assert_picture

BASE = to_flat(from_flat({"kind": "audio"}))


def made_up(grid, missing=(), base=BASE):
    """A study of a grid, its groups, and the accuracy of each of its runs."""
    study, rng = new_study("audio-small", base, grid), np.random.default_rng(0)
    cells = cells_of(study.base, study.grid)
    results = {}
    for cell in cells:
        if cell.run.name not in missing:
            line = {"accuracy": float(rng.uniform(0.3, 0.9)), "n": 100, "n_classes": 20}
            line |= {"seed": cell.run.settings["seed"], "parameters": 7}
            results.setdefault(cell.run.key, line)
    found = {c.run.name: results[c.run.key]["accuracy"] for c in cells if c.run.key in results}
    return study, groups_of(cells, results), found


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, kept open."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    yield figures
    for figure in figures:
        plt.close(figure)


FULL = {
    "delays": ["learned", "fixed", "none"],
    "n_hidden": [64, 16],
    "max_delay_steps": [5, 15],
    "seed": [0, 1, 2],
}


@pytest.mark.parametrize(
    "grid", [FULL, {"delays": ["fixed", "none"]}, {"n_hidden": [[8, 4], 16], "seed": [0]}]
)
def test_every_study_has_a_picture(grid, tmp_path):
    study, groups, _ = made_up(grid)
    plots.draw_study(study, groups, tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")


def test_words_along_an_axis_are_not_joined(drawn, tmp_path):
    kinds, sizes = ["axonal", "common"], [4, 8]
    study, groups, _ = made_up({"delay_kind": kinds, "max_delay_steps": sizes, "seed": [0, 1]})
    plots.draw_study(study, groups, tmp_path / "a.png")
    lines = [panel.get_lines()[0] for panel in drawn[0].axes]
    assert [line.get_linestyle() for line in lines] == ["None", "-"]


@pytest.mark.parametrize("grid", [{"curriculum": ["single", "multi-head"]}, {"seed": [0, 1]}])
def test_a_study_of_a_memory_task_has_a_picture(grid, tmp_path):
    memory = to_flat(from_flat({"kind": "memory", "dataset": "n-dms"}))
    study, groups, _ = made_up(grid, base=memory)
    plots.draw_study(study, groups, tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")


def test_a_line_is_the_mean_over_the_other_axes_seed_by_seed(drawn, tmp_path):
    study, groups, found = made_up(FULL)
    plots.draw_study(study, groups, tmp_path / "a.png")
    upper, lower = np.array(drawn[0].axes).reshape(2, 2)
    of = {}
    for kind in ("learned", "fixed"):
        for width in (16, 64):
            names = f"delays={kind},n_hidden={width},max_delay_steps={{}},seed={{}}"
            seeds = [
                50 * (found[names.format(5, seed)] + found[names.format(15, seed)])
                for seed in (0, 1, 2)
            ]
            of[kind, width] = seeds
    lines = {line.get_label(): line for line in upper[0].containers}
    for kind in ("learned", "fixed"):
        line, _, (bars,) = lines[kind]
        assert line.get_ydata() == pytest.approx([np.mean(of[kind, n]) for n in (16, 64)])
        half = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
        assert half == pytest.approx([half_interval(of[kind, n]) for n in (16, 64)])
    words = [text.get_text() for text in lower[0].texts]
    assert words == [welch(of["learned", n], of["fixed", n]).words() for n in (16, 64)]
    chance = [line for line in upper[0].get_lines() if line.get_label() == "chance"]
    assert chance[0].get_ydata()[0] == 100 / 20
    assert [label.get_text() for label in lower[0].get_xticklabels()] == ["16", "64"]


def test_tables_leave_out_what_is_not_measured():
    missing = "delays=learned,n_hidden=16,seed=1", "delays=fixed,n_hidden=64,seed=0"
    missing += ("delays=fixed,n_hidden=64,seed=1",)
    grid = {"delays": ["learned", "fixed"], "n_hidden": [16, 64], "seed": [0, 1]}
    _, groups, found = made_up(grid, missing)
    one = found["delays=learned,n_hidden=16,seed=0"]
    text = accuracy_table(groups)
    assert f"| learned | 16 | 1 | {one:.1%} | 7 | 100 |" in text
    assert "| fixed | 64 | 0 | not measured |  |  |" in text
    text = difference_table(groups)
    assert "| 64 | not measured |" in text and "(one seed) |" in text
    assert per_seed([g for g in groups if g.values["delays"] == "learned"]) == pytest.approx(
        [(one + found["delays=learned,n_hidden=64,seed=0"]) / 2]
    ), "a seed that lacks a run counts in no mean"


def test_without_two_kinds_of_delays_there_is_no_difference():
    _, groups, _ = made_up({"n_hidden": [16, 64], "seed": [0, 1]})
    assert difference_table(groups) == ""


def test_data_of_angles_have_a_column_of_their_error():
    grid = {"delays": ["learned", "none"], "seed": [0, 1]}
    study = new_study("audio-small", BASE, grid)
    cells = cells_of(study.base, study.grid)
    angle = {"delays=learned,seed=0": 0.0, "delays=learned,seed=1": 10.0}
    angle |= {"delays=none,seed=0": 20.0, "delays=none,seed=1": 30.0}
    results = {
        cell.run.key: {
            **{"accuracy": 0.5, "n": 100, "n_classes": 12, "parameters": 7},
            **{"seed": cell.run.settings["seed"], "angle_error": angle[cell.run.name]},
        }
        for cell in cells
    }
    text = accuracy_table(groups_of(cells, results))
    assert "| accuracy | angle error, degrees | parameters |" in text
    assert "| 5.0 ± 5.0 |" in text and "| 25.0 ± 5.0 |" in text
    _, groups, _ = made_up(grid)
    assert "angle" not in accuracy_table(groups)
