"""Settings: valid defaults, published presets, sentences for what cannot work."""

import dataclasses
import json

import pytest

from snndelay import kernels
from snndelay.errors import ConfigError
from snndelay.losses import LOSSES
from snndelay.runs.options import field_docs
from snndelay.runs.settings import (
    CONFIGS,
    PRESET_NOTES,
    PRESETS,
    DataConfig,
    ModelConfig,
    TrainConfig,
    from_flat,
    preset_settings,
    to_flat,
)

PUBLISHED = {  # arXiv 2306.17670, and the table of its code's settings
    "shd": dict(
        n_hidden=256, n_layers=2, n_out=20, max_delay_steps=25, tau=1.005, dropout=0.4, epochs=150,
        batch_size=256,
    ),
    "ssc": dict(
        n_hidden=512, n_layers=3, n_out=35, max_delay_steps=31, tau=1.5, dropout=0.25, epochs=60,
        batch_size=128,
    ),
    "gsc": dict(
        n_hidden=512, n_layers=3, n_out=35, max_delay_steps=31, tau=1.5, dropout=0.25, epochs=100,
        batch_size=128,
    ),
}  # fmt: skip
COMMON = dict(
    n_in=140, dt_ms=10.0, units_per_channel=5, lr=1e-3, lr_max=5e-3, lr_position=0.1,
    weight_decay=1e-5,
    sigma_end=0.23, sigma_start=None, sigma_epochs=None, v_threshold=1.0, reset="hard",
    detach_reset=True, decay_input=False, surrogate="atan", surrogate_alpha=None, version="gauss",
    kernel_count=1, padding="right", dropout_mask="held", loss="softmax_sum", framing="grid",
    protocol="clean", label_smoothing=0.0, grad_clip=None, neuron="lif", delays="learned",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_presets(name):
    flat = to_flat(*from_flat(preset_settings(name)))
    for field, value in (COMMON | PUBLISHED[name]).items():
        assert flat[field] == value, f"{name}: {field} is {flat[field]}, published is {value}"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    configs = from_flat(preset_settings(name))
    again = from_flat(json.loads(json.dumps(to_flat(*configs))))
    assert again == configs, f"preset {name} changes on its way through JSON"
    assert name in PRESET_NOTES, f"preset {name} has no line for --list"


def test_augmentation_is_off_by_default():
    assert {v for k, v in to_flat(DataConfig()).items() if k.startswith("aug_")} == {0.0}


def test_field_names_are_unique_and_explained():
    names = [field.name for kind in CONFIGS for field in dataclasses.fields(kind)]
    assert len(names) == len(set(names)), "a field name occurs in two configs"
    missing = [name for name in names if len(field_docs().get(name, "")) < 10]
    assert not missing, f"no text under {missing}"


def test_every_entry_of_a_registry_is_a_valid_setting():
    for name in kernels.NEURONS:
        assert ModelConfig(neuron=name, tau=2.0).neuron == name
    for name in kernels.SURROGATES:
        assert ModelConfig(surrogate=name).surrogate == name
    for name in LOSSES:
        assert TrainConfig(loss=name).loss == name


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
        ({"protocol": "dirty"}, "choose one of clean, published"),
        ({"neuron": "plif", "tau": 1.0}, "plif neuron needs tau above 1"),
        ({"drpout": 0.1}, "unknown setting 'drpout': did you mean dropout?"),
        ({"seed": -1}, "seed is -1"),
        ({"lr_max": float("inf")}, "lr_max is inf"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, words):
    with pytest.raises(ConfigError) as caught:
        from_flat(settings)
    message = str(caught.value)
    assert words in message, f"{words!r} is not in {message!r}"
    assert "\n" not in message


def test_unknown_preset_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean shd"):
        preset_settings("sdh")


def test_configs_are_frozen_and_presets_are_copied():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3
    preset_settings("shd")["epochs"] = 1
    assert PRESETS["shd"]["epochs"] == 150
    assert ModelConfig(tau=2).tau == 2, "an integer is a fine float"
