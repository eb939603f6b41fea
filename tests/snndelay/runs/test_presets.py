"""Presets: published values, and the network of each."""

import pytest
import torch

from snndelay import build_model
from snndelay.errors import ConfigError
from snndelay.runs.flat import from_flat, to_flat
from snndelay.runs.help import listing
from snndelay.runs.presets import OWN, PRESETS, preset_settings

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
    flat = to_flat(from_flat(preset_settings(name)))
    for field, value in (COMMON | PUBLISHED[name]).items():
        assert flat[field] == value, f"{name}: {field} is {flat[field]}, published is {value}"


def test_every_preset_has_a_line_for_list():
    text = " ".join(listing().split())
    for name, preset in PRESETS.items():
        assert f"{name} {preset['note']}" in text
        assert "note" not in preset_settings(name)
    assert max(map(len, listing().splitlines())) <= 100, "a line is too long for a terminal"
    assert {kind: PRESETS[name]["kind"] for kind, name in OWN.items()} == {k: k for k in OWN}


def test_unknown_preset_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean shd"):
        preset_settings("sdh")


def test_presets_are_copied():
    preset_settings("shd")["epochs"] = 1
    assert PRESETS["shd"]["epochs"] == 150


SIZES = {"audio-small": {"n_in": 140, "n_out": 20}, "audio-small-tuned": {"n_in": 140, "n_out": 20}}
SIZES |= {"vision-small": {"n_out": 3, "size": (34, 40)}}


@pytest.mark.parametrize("name", PRESETS)
def test_the_network_of_every_preset(name):
    small = {"n_hidden": 8} if PRESETS[name]["kind"] != "vision" else {}
    net = build_model(name, **SIZES.get(name, {}), **small)
    settings = from_flat(PRESETS[name] | SIZES.get(name, {}) | small)
    n_out = 2 if settings.kind == "memory" else settings.network.n_out
    if settings.kind == "audio":
        x = torch.zeros(3, 2, settings.network.n_in)
    elif settings.kind == "memory":
        x = torch.zeros(3, 2, 1)
        assert len(net.heads) == settings.curriculum.n_max - settings.curriculum.n_start + 1
    else:
        x = torch.zeros(3, 2, 2, *settings.network.size)
        assert len(net.heads) == (2 if settings.transfer.transfer == "align" else 1)
    with torch.no_grad():
        out = net(x)
    assert net.training and out.shape[1:] == (2, n_out)


def test_one_width_per_layer():
    net = build_model("shd", n_hidden=(12, 7, 5), max_delay_steps=3)
    shapes = [tuple(layer.weight.shape) for layer in net.delay_layers()]
    assert shapes == [(1, 12, 140), (1, 7, 12), (1, 5, 7), (1, 20, 5)]


def test_settings_reach_the_network():
    net = build_model("nmnist", delays="learned", max_delay_steps=4, tau=3.0, transfer="off")
    assert [len(layer.position) for layer in net.delay_layers()] == [2, 32, 64]
    assert net.blocks[0].neuron.options.v_threshold == 0.5, "the preset's"
    assert list(net.heads) == ["event"]
    one, other = (build_model("shd", neuron="adlif", dt_ms=dt_ms) for dt_ms in (1.0, 10.0))
    taus = [net.blocks[0].neuron.constants()["tau_u"].max() for net in (one, other)]
    assert taus[0] > taus[1]


@pytest.mark.parametrize(
    ("preset", "settings", "words"),
    [
        ("shd", {"n_hiden": 3}, "did you mean n_hidden"),
        ("shd", {"epochs": 3}, "'epochs' is no setting of a network"),
        ("shd", {"size": (3, 3)}, "'size' is no setting of a network"),
        ("nmnist", {"dt_ms": 5.0, "n_hidden": 3}, "'n_hidden' is no setting of a network"),
        ("audio-small", {}, "needs n_in and n_out: give n_in=..."),
        ("vision-small", {"n_out": 3}, "needs size: give size=..."),
        ("vision-small", {"n_out": 3, "size": (4, 4)}, "down to nothing"),
        ("nmnist", {"network": "delay"}, "network delay is for audio, and this run is on vision"),
        ("nmnist", {"size": (34,)}, "size is"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_sentence(preset, settings, words):
    with pytest.raises(ConfigError) as caught:
        build_model(preset, **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


def test_reset_and_refractory_steps_reach_the_neurons():
    for preset, more in (("shd", {}), ("nmnist", {"transfer": "off"})):
        net = build_model(preset, v_reset=-0.5, refractory=2, **more)
        options = net.blocks[0].neuron.options
        assert (options.v_reset, options.refractory) == (-0.5, 2)
    with pytest.raises(ConfigError, match=r"v_reset is 1\.0: choose less than v_thr"):
        build_model("shd", v_reset=1.0)
