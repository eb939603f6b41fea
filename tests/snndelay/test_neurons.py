"""The coefficients that a layer keeps while its constants are not learned and do not change."""

import copy

import pytest
import torch

from snndelay import LIF


def spikes(layer, x):
    """Of the compiled scan and of the reference, which knows no coefficients."""
    layer.backend = "cpu"
    compiled = layer(x)
    layer.backend = "reference"
    return compiled, layer(x)


def assert_current(layer, x):
    compiled, wanted = spikes(layer, x)
    assert torch.equal(compiled, wanted), "the coefficients are those of other constants"


def change(layer):
    layer.tau.fill_(3.0)


def load(layer):
    layer.load_state_dict({"tau": torch.full((6,), 3.0)})


def put(layer):
    layer.tau = torch.full((6,), 3.0)


@pytest.mark.parametrize("how", [change, load, put])
def test_a_changed_constant_counts(how):
    layer, x = LIF(6, 1.2), torch.randn(30, 3, 6)
    before, _ = spikes(layer, x)
    how(layer)
    assert_current(layer, x)
    assert not torch.equal(before, spikes(layer, x)[0])


def test_they_are_computed_once():
    layer, x = LIF(6, 1.2), torch.randn(5, 3, 6)
    layer(x)
    kept = layer.settings()["coefficients"]
    layer(x)
    layer.clamp_()
    assert layer.settings()["coefficients"] is kept
    assert layer.settings()["coefficients"][0] is kept[0]


def test_learned_ones_are_not_kept():
    x = torch.randn(5, 3, 6)
    for layer in (LIF(6, 2.0, neuron="plif"), LIF(6, 2.0, learned=True), LIF(6, neuron="adlif")):
        assert layer.settings()["coefficients"] is None
        layer(x).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())


def test_a_copy_keeps_its_own():
    layer, x = LIF(6, 1.2), torch.randn(30, 3, 6)
    layer(x)
    layer.tau.fill_(1.7)
    twin = copy.deepcopy(layer)
    assert_current(twin, x)
    twin.tau.fill_(3.0)
    assert_current(twin, x)
    assert_current(layer, x)


def test_inference_first_and_training_after():
    layer, x = LIF(6, 1.2, backend="cpu"), torch.randn(30, 3, 6, requires_grad=True)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        born = LIF(6, 1.2, backend="cpu")
        born(x)
        assert born.settings()["coefficients"] is None, "its constants count no changes"


def test_only_learned_constants_are_clamped():
    layer = LIF(6, 1.2)
    before = layer.tau._version
    layer.clamp_()
    assert layer.tau._version == before
    learned = LIF(6, 1.2, learned=True)
    learned.tau.data.fill_(0.5)
    learned.clamp_()
    assert torch.equal(learned.tau, torch.ones(6))
