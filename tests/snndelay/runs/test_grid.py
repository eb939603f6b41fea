"""Grids: which cells there are, which of them share a run, and what is refused."""

import pytest

from snndelay.errors import ConfigError
from snndelay.runs.flat import from_flat, to_flat
from snndelay.runs.grid import cells_of, check_effects, folder_name, key_of
from snndelay.runs.presets import preset_settings

BASE = to_flat(from_flat({"kind": "audio", "n_hidden": 8}))


def test_an_axis_without_effect_is_trained_once():
    grid = {"delays": ["learned", "fixed", "none"], "max_delay_steps": [5, 15], "seed": [0, 1]}
    cells = cells_of(BASE, grid)
    assert len(cells) == 12 and len({cell.run.key for cell in cells}) == 10
    for cell in cells:
        delays, seed = cell.values["delays"], cell.values["seed"]
        assert (cell.run.settings["delays"], cell.run.settings["seed"]) == (delays, seed)
        taps = BASE["max_delay_steps"] if delays == "none" else cell.values["max_delay_steps"]
        assert cell.run.settings["max_delay_steps"] == taps
        assert ("max_delay_steps" in cell.run.values) == (delays != "none")
    assert [cell.values["seed"] for cell in cells] == [0] * 6 + [1] * 6, "seed by seed"


def test_what_has_no_effect_may_hang_on_what_has_none():
    grid = {"delays": ["learned", "none"], "version": ["gauss", "v1"], "sigma_start": [2.0, 3.0]}
    values = [cell.run.values for cell in cells_of(BASE, grid)]
    unlike = {folder_name(found): found for found in values}
    assert [*unlike.values()] == [
        {"delays": "learned", "version": "gauss", "sigma_start": 2.0},
        {"delays": "learned", "version": "gauss", "sigma_start": 3.0},
        {"delays": "learned", "version": "v1"},
        {"delays": "none"},
    ]


def test_keys_tell_what_is_computed_from_how():
    flat = BASE | {"delays": "none"}
    for how in ({"threads": 2}, {"runs": "x"}, {"device": "cuda"}, {"max_delay_steps": 3}):
        assert key_of(flat | how) == key_of(flat), how
    for what in ({"seed": 1}, {"n_hidden": [8, 4]}, {"delays": "fixed"}):
        assert key_of(flat | what) != key_of(flat), what


def test_folders_have_readable_names_that_differ():
    values = [{"n_hidden": [8, 4], "seed": 0}, {"lr_max": None}, {"amp": True}, {}]
    names = [folder_name(found) for found in values]
    assert names == ["n_hidden=8,4,seed=0", "lr_max=null", "amp=true", "run"]
    paths = ["a/b.h5", "a_b.h5", "a b.h5"], ["x" * 300, "x" * 301]
    for some in paths:
        names = {folder_name({"dataset": path}) for path in some}
        assert len(names) == len(some) and all("/" not in n and len(n) < 200 for n in names)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"seed": [0], "dropout": [0.1, 2.0]}, "seed=0, dropout=2.0: dropout is 2.0: choose"),
        ({"loss": ["tet", "rate_cross_entropy"]}, "loss=rate_cross_entropy: loss rate_cross"),
        ({"dataset": ["spoken-digits", "dvs"]}, "dataset=dvs: dvs is vision, not audio"),
    ],
)
def test_a_wrong_cell_is_named(grid, words):
    with pytest.raises(ConfigError) as error:
        cells_of(BASE, grid)
    assert str(error.value).startswith(words), error.value


def test_what_has_an_effect_in_no_cell_is_refused():
    some = cells_of(BASE, {"delays": ["none", "fixed"], "max_delay_steps": [3, 5]})
    check_effects(BASE, some, {"version": None})
    with pytest.raises(ConfigError, match=r"^--version has no effect with delays none: add"):
        check_effects(BASE, some, {"version": "max"})
    base = BASE | {"delays": "none"}
    with pytest.raises(ConfigError, match=r"^axis max_delay_steps has no effect in any cell: add"):
        check_effects(base, cells_of(base, {"max_delay_steps": [3, 5]}), {})


def test_vision_has_grids_too():
    base = to_flat(from_flat(preset_settings("nmnist")))
    cells = cells_of(base, {"delays": ["learned", "none"], "n_steps": [3, 6]})
    assert [cell.run.settings["n_steps"] for cell in cells] == [3, 6, 3, 6]
