"""Settings: valid defaults, and one sentence for what cannot work."""

import dataclasses
import json
import re

import pytest

from snndelay import kernels
from snndelay.errors import ConfigError, DataError
from snndelay.losses import LOSSES
from snndelay.networks import NETWORKS
from snndelay.runs.fields import choices_of
from snndelay.runs.flat import components_of, from_flat, lines_of, to_flat, unmet
from snndelay.runs.presets import PRESETS, preset_settings
from snndelay.runs.settings import (
    KINDS,
    AudioAugmentation,
    AudioNetwork,
    AudioRecipe,
    Neurons,
    Training,
    VisionAugmentation,
    networks_of,
)

from ...helpers_training import ROOT


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    settings = from_flat(preset_settings(name))
    again = from_flat(json.loads(json.dumps(to_flat(settings))))
    assert again == settings, f"preset {name} changes on its way through JSON"


def test_augmentation_is_off_by_default():
    values = dataclasses.asdict(AudioAugmentation()) | dataclasses.asdict(VisionAugmentation())
    assert set(values.values()) == {0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_unique_and_explained(kind):
    parts = components_of(kind).values()
    names = [line.name for part in parts for line in dataclasses.fields(part)]
    assert len(names) == len(set(names)), "a name occurs in two components"
    for name, line in lines_of(kind).items():
        assert len(line.metadata["help"]) > 5, f"no text beside {name}"
        assert line.metadata["low"] is None or line.metadata["high"] is not None, name
    assert all(not part.__doc__.startswith(f"{part.__name__}(") for part in parts), (
        "a class without text"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_names_a_setting_and_values_that_it_can_have(kind):
    lines = lines_of(kind)
    for name, line in lines.items():
        if needs := line.metadata["needs"]:
            other, _, values = needs.partition("=")
            choices = choices_of(lines[other]) or ("null", "number")
            assert set(values.split("|")) <= set(choices), f"{name} needs {needs}"


WHOLE = ("network", "delays", "neurons", "augment")  # handed on whole; who takes them is strict


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_read_somewhere(kind):
    tables = ("settings.py", "presets.py", "help.py", "options.py")
    files = (ROOT / "snndelay" / "runs").glob("*.py")
    source = "\n".join(file.read_text() for file in files if file.name not in tables)
    for part, component in components_of(kind).items():
        for line in dataclasses.fields(component) if part not in WHOLE else ():
            assert re.search(rf"\.{line.name}\b", source), f"nothing reads {line.name}"


def test_conditions_are_followed_to_their_end():
    assert unmet("vision", {"transfer": "align"}, "sliding_power") is None
    assert unmet("vision", {"transfer": "align", "sliding": "step"}, "sliding_power") == (
        "sliding", ["power"],
    )  # fmt: skip
    assert unmet("vision", {"transfer": "off"}, "sliding_power") == ("transfer", ["align"])
    assert unmet("audio", {}, "lr") == ("lr_max", ["null"])
    assert unmet("audio", {"lr_max": None}, "lr") is None
    assert unmet("audio", {}, "seed") is None


def test_every_entry_of_a_registry_is_a_valid_setting(monkeypatch):
    for name in kernels.NEURONS:
        assert Neurons(neuron=name, tau=2.0).neuron == name
    for name in kernels.SURROGATES:
        assert Neurons(surrogate=name).surrogate == name
    for name in LOSSES:
        assert AudioRecipe(loss=name).loss == name
    monkeypatch.setitem(LOSSES, "mine", LOSSES["tet"])
    assert AudioRecipe(loss="mine").loss == "mine", "a new entry is no choice"


@pytest.mark.parametrize("kind", KINDS)
def test_networks_read_the_data_of_their_kind(kind):
    names = networks_of(kind)
    assert names and all(NETWORKS[name].kind == kind for name in names)
    for name in set(NETWORKS) - set(names):
        with pytest.raises(
            ConfigError, match=f"network {name} is for .*, and this run is on {kind}"
        ):
            from_flat({"kind": kind, "network": name})


def test_the_data_say_the_kind(tmp_path):
    assert from_flat({}).kind == "audio"
    assert from_flat({"dataset": "nmnist"}).kind == "vision"
    assert from_flat({"dataset": "none.h5"}).kind == "audio"
    assert from_flat({"dataset": str(tmp_path)}).kind == "vision"
    with pytest.raises(DataError, match="shd"):
        from_flat({"dataset": "shdd"})


def test_widths_say_the_number_of_layers():
    assert AudioNetwork(n_hidden=(256, 128, 64)).n_layers == 3
    assert AudioNetwork(n_hidden=8, n_layers=4).n_layers == 4
    assert from_flat({"n_hidden": [16, 8]}).network.n_hidden == (16, 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dropout": 1.5}, "dropout is 1.5: choose a number from 0 to 0.99"),
        ({"dt_ms": float("nan")}, "dt_ms is nan"),
        ({"epochs": 0}, "epochs is 0: choose a number from 1"),
        ({"epochs": 1.5}, "epochs is 1.5: give a value of type int"),
        ({"epochs": True}, "epochs is True"),
        ({"download": 1}, "download is 1"),
        ({"n_steps": "x"}, "n_steps is 'x': give a value of type int | None"),
        ({"neuron": "lfi"}, "unknown neuron 'lfi': did you mean lif?"),
        ({"protocol": "dirty"}, "choose one of clean, best-on-test"),
        ({"neuron": "plif", "tau": 1.0}, "plif neuron needs tau above 1"),
        ({"tau_init": "gamma"}, "tau is 1.005: gamma needs 2 steps or more"),
        ({"tau": 60, "tau_init": "log-uniform"}, "tau_max is 50: choose more than tau, 60"),
        ({"drpout": 0.1}, "unknown setting 'drpout': did you mean dropout?"),
        ({"seed": -1}, "seed is -1"),
        ({"lr_max": float("inf")}, "lr_max is inf"),
        ({"n_hidden": (8, 0)}, "n_hidden is 0: choose a number from 1"),
        ({"n_hidden": (8, 1.5)}, "n_hidden is (8, 1.5): give a value of type int"),
        ({"static": "digits"}, "static is for vision, and this run is on audio: leave it out"),
        (
            {"loss": "spike_count_mse"},
            "loss spike_count_mse is of output spikes: add --readout spikes",
        ),
        ({"temporal_gradient": "sltt"}, "add --loss tet --padding causal"),
        ({"temporal_gradient": "sltt", "padding": "causal"}, "add --loss tet"),
        ({"temporal_gradient": "sltt", "loss": "tet"}, "add --padding causal"),
        ({"kind": "vision", "coefficient": 1.5}, "give learned, off or a number from 0 to 1"),
        ({"kind": "vision", "coefficient": "on"}, "unknown coefficient 'on'"),
        ({"kind": "vision", "units_per_channel": 5}, "units_per_channel is for audio"),
        ({"kind": "vision", "framing": "grid"}, "time_bins, event_count, time_window"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, words):
    with pytest.raises(ConfigError) as caught:
        from_flat(settings)
    message = str(caught.value)
    assert words in message, f"{words!r} is not in {message!r}"
    assert "\n" not in message


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Training().epochs = 3
    assert Neurons(tau=2).tau == 2, "an integer is a fine float"
