"""What a study says an axis brings, against averages and t-tests written out here."""

import numpy as np
import pytest
from scipy import stats

from snndelay.runs.grid import cells_of
from snndelay.runs.presets import preset_settings
from snndelay.runs.study_file import new_study
from snndelay.runs.study_table import effect_table, groups_of

GRID = {"neuron": ["lif", "plif"], "dropout": [0.0, 0.2, 0.4], "seed": [0, 1, 2]}


def table_of(grid, accuracy):
    """Rows of the effects of a grid whose runs have the accuracies `accuracy(values)`."""
    base = new_study(
        "audio-small", preset_settings("audio-small") | {"dataset": "spoken-digits"}, {}
    ).base
    cells = cells_of(base, grid)
    lines = {
        c.run.key: {"seed": c.values.get("seed", 0), "accuracy": accuracy(c.values)}
        for c in cells
        if accuracy(c.values) is not None
    }
    return [
        row.strip("| ").split(" | ") for row in effect_table(groups_of(cells, lines)).split("\n")
    ][2:]


def test_effects_are_paired_differences_averaged_over_the_other_axes():
    rng = np.random.default_rng(0)
    by = {}

    def accuracy(values):
        return by.setdefault(tuple(values.values()), float(rng.uniform(0.4, 0.6)))

    rows = table_of(GRID, accuracy)
    for (axis, first, other), row in zip(
        [("neuron", "lif", "plif"), ("dropout", 0.0, 0.2), ("dropout", 0.0, 0.4)], rows, strict=True
    ):
        at = list(GRID).index(axis)
        side = [
            [
                np.mean([a for key, a in by.items() if key[at] == v and key[2] == s])
                for s in range(3)
            ]
            for v in (first, other)
        ]
        gain = 100 * (np.array(side[1]) - side[0])
        assert row[:3] == [axis, str(first), str(other)]
        assert row[3] == f"{gain.mean():+.1f} ± {stats.sem(gain):.1f}", (row, gain)
        assert row[4] == f"{stats.ttest_rel(side[1], side[0]).pvalue:.3f}", row
        assert row[5:] == ["3", "9" if axis == "neuron" else "6"]


@pytest.mark.parametrize("missing", [1, 2])
def test_only_whole_pairs_count(missing):
    def accuracy(values):
        if values["neuron"] == "plif" and values["seed"] >= 3 - missing:
            return None  # not finished
        return 0.5 + 0.1 * (values["neuron"] == "plif")

    (row,) = table_of({"neuron": ["lif", "plif"], "seed": [0, 1, 2]}, accuracy)
    error = " ± 0.0" if missing == 1 else ""
    assert row[3:] == [f"+10.0{error}", "–", str(3 - missing), str(3 - missing)]


def test_axes_that_say_nothing_are_left_out():
    def accuracy(_):
        return 0.5

    assert table_of({"delays": ["learned", "fixed"], "seed": [0, 1]}, accuracy) == []
    rows = table_of({"delays": ["none", "learned"], "max_delay_steps": [5, 9]}, accuracy)
    assert [row[:3] + row[5:] for row in rows] == [["max_delay_steps", "5", "9", "1", "1"]]


def test_nothing_is_said_before_runs_are_finished():
    (row,) = table_of({"neuron": ["lif", "plif"]}, lambda _: None)
    assert row[3:] == ["not measured", "–", "0", "0"]
