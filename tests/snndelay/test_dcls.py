"""Delay layers from and to the package ``dcls``."""

import pytest
import torch
import torch.nn.functional as F
from DCLS.construct.modules import Dcls1d
from torch import nn

from snndelay import DelayLinear, parameter_groups, set_sigma

from ..conftest import assert_close


@pytest.mark.parametrize("version", ["v0", "v1", "max", "gauss"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel_count", [1, 2])
@pytest.mark.parametrize("K", [1, 6, 25])
def test_dcls_and_back(version, kernel_count, bias, K):
    peer = Dcls1d(7, 5, kernel_count, dilated_kernel_size=K, bias=bias, version=version)
    if peer.SIG is not None:
        nn.init.uniform_(peer.SIG, 0, 3)
    if bias:
        nn.init.uniform_(peer.bias, -1, 1)
    layer = DelayLinear.from_dcls(peer)
    x = torch.poisson(torch.full((30, 2, 7), 0.5))
    want = peer(F.pad(x.permute(1, 2, 0), (K - 1, 0))).permute(2, 0, 1)
    assert_close(layer(x), want, 1e-5, f"{version} K={K}")
    back = layer.to_dcls()
    for name, value in peer.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), f"{name} changed on the way"


def test_what_is_not_trained_there_is_not_trained_here():
    """SNN-delays keeps one SIG that narrows by a schedule and is no parameter to an optimizer."""
    peer = Dcls1d(4, 3, 1, dilated_kernel_size=5, bias=False, version="gauss").double().eval()
    nn.init.constant_(peer.SIG, 0.5)
    for p in (peer.SIG, peer.P):
        p.requires_grad_(False)
    layer = DelayLinear.from_dcls(peer)
    (group,) = parameter_groups(layer, 1e-3, 0.1)
    assert group["params"] == [layer.weight] and not layer.training
    assert {t.dtype for t in (layer.weight, layer.position, layer.sigma)} == {torch.float64}
    assert set(layer.state_dict()) == set(DelayLinear(4, 3, 5).state_dict())
    assert layer.sigma.shape == () and layer.sigma == 0.5
    back = layer.to_dcls()
    assert {n for n, p in back.named_parameters() if p.requires_grad} == {"weight"}
    assert {p.dtype for p in back.parameters()} == {torch.float64} and not back.training
    set_sigma(layer, 0.25)
    assert layer.sigma == 0.25 and peer.SIG.unique() == 0.5, "the layers share memory"


def test_widths_that_differ_stay_so():
    peer = Dcls1d(4, 3, 2, dilated_kernel_size=5, bias=True, version="max")
    nn.init.uniform_(peer.SIG, 0, 3)
    for p in (peer.SIG, peer.bias):
        p.requires_grad_(False)
    layer = DelayLinear.from_dcls(peer)
    assert {n for n, _ in layer.named_parameters()} == {"weight", "position", "bias"}
    assert not layer.bias.requires_grad
    assert torch.equal(layer.to_dcls().SIG, peer.SIG)


@pytest.mark.parametrize("delays", ["fixed", "none"])
def test_whole_steps_become_one_exact_tap(delays):
    layer = DelayLinear(4, 3, 9, delays=delays)
    peer, K = layer.to_dcls(), layer.max_delay_steps
    x = torch.randn(20, 2, 4)
    want = peer(F.pad(x.permute(1, 2, 0), (K - 1, 0))).permute(2, 0, 1)
    assert_close(layer(x), want, 1e-6, delays)
    assert not peer.P.requires_grad and not peer.SIG.requires_grad


def test_what_a_delay_layer_has_not_is_refused():
    with pytest.raises(ValueError, match="padding=0"):
        DelayLinear.from_dcls(Dcls1d(3, 4, 1, dilated_kernel_size=5, padding=2))
