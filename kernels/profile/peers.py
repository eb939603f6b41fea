"""What one would otherwise use: Dcls1d (package dcls), SpikingJelly's LIFNode and their published
composition, on the inputs of an op. Only `profile --compare` and the benchmarks come here.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from ..synapses import Synapses

ATAN = 5.0  # sharpness of the surrogate, published


class Peer(NamedTuple):
    """A competitor on given inputs: ``run()``, the tensors that get gradients, and its code path,
    asked after a run since SpikingJelly chooses its implementation then.
    """

    run: Callable[[], Tensor]
    leaves: list[Tensor]
    path: Callable[[], str]


def missing() -> str | None:
    """Why there is no peer to compare with; None if both packages are installed."""
    for package, module in (("dcls", "DCLS"), ("spikingjelly", "spikingjelly")):
        if find_spec(module) is None:
            return f'the package {package} is missing: pip install "snndelay[peers]"'
    return None


def dcls(synapses: Synapses) -> Module:
    """The synapses as a Dcls1d without bias; pad its input left by K - 1.

    Args:
        synapses: sigma is not learned, as published; for integer delays version ``max``, sigma 0.

    Source: Khalfaoui-Hassani et al. 2023 (arXiv 2306.00817).
    """
    w_ENC, p_ENC, sigma, K, version = synapses
    E, N, C = w_ENC.shape
    module = importlib.import_module("DCLS.construct.modules").Dcls1d(
        C, N, E, dilated_kernel_size=K, bias=False, version=version
    )
    with torch.no_grad():
        module.weight.copy_(w_ENC.permute(1, 2, 0))
        module.P[0].copy_(p_ENC.permute(1, 2, 0))
        module.SIG[0].copy_(sigma.expand(E, N, C).permute(1, 2, 0))
    module.SIG.requires_grad_(False)
    return module.to(w_ENC.device)


def delays(module: Module, x_TBC: Tensor) -> Tensor:
    """(T, B, C) -> (T, B, N) through a Dcls1d, causal."""
    past = module.dilated_kernel_size[0] - 1
    return module(F.pad(x_TBC.permute(1, 2, 0), (past, 0))).permute(2, 0, 1)


def lif_node(tau: float, v_threshold: float = 1.0, store_v_seq: bool = False) -> Module:
    """SpikingJelly's LIFNode in multi-step mode with the published settings; tau in steps."""
    parts = "spikingjelly.activation_based"
    atan = importlib.import_module(f"{parts}.surrogate").ATan(ATAN)
    return importlib.import_module(f"{parts}.neuron").LIFNode(
        tau, False, v_threshold, 0.0, atan, True, step_mode="m", store_v_seq=store_v_seq
    )


def held_dropout(p: float) -> Module:
    """SpikingJelly's dropout with one mask for all steps, as published."""
    layer = importlib.import_module("spikingjelly.activation_based.layer")
    return layer.Dropout(p, step_mode="m")


def lif_path(device: str) -> str:
    """Which of SpikingJelly's implementations of LIFNode ran on a device type; fastest first:
    CUDA, Triton, torch. On a CPU there is one: a torch loop over T with a written adjoint.
    """
    if device == "cpu":
        return "op sj_lif, torch loop"
    selection = importlib.import_module("spikingjelly._ops.lif")._selection
    chosen = selection._selections.get(torch.cuda.current_device())
    return f"op sj_lif, {getattr(chosen, 'name', 'torch loop')}"


def _dcls_path(x: Tensor) -> str:
    return "Dcls1d, cuDNN conv1d" if x.is_cuda else "Dcls1d, conv1d"


def _taps(synapses: Synapses) -> Peer:
    m = dcls(synapses)
    return Peer(lambda: m.DCK(m.weight, m.P, m.SIG), [m.weight, m.P], lambda: "Dcls1d.DCK")


def _linear(x: Tensor, synapses: Synapses) -> Peer:
    m = dcls(synapses)
    return Peer(lambda: delays(m, x), [x, m.weight, m.P], lambda: _dcls_path(x))


def _integer(x: Tensor, w: Tensor, delay: Tensor, K: int) -> Peer:
    position = (K - 1 - K // 2 - delay).to(w.dtype)
    synapses = Synapses(w, position, torch.zeros((), device=w.device), K, "max")
    m = dcls(synapses).requires_grad_(False)
    return Peer(lambda: delays(m, x), [], lambda: _dcls_path(x))


def _lif(x: Tensor, _v: Tensor, tau_N: Tensor) -> Peer:
    node = lif_node(tau_N[0].item())

    def run() -> Tensor:
        node.reset()
        return node(x)

    return Peer(run, [x], lambda: f"LIFNode, {lif_path(x.device.type)}")


def _block(x: Tensor, synapses: Synapses, scale_N, shift_N, tau_N, _seed) -> Peer:
    m, node, dropout = dcls(synapses), lif_node(tau_N[0].item()), held_dropout(0.4)

    def run() -> Tensor:
        node.reset()
        dropout.reset()
        y = delays(m, x)
        rows = F.batch_norm(y.flatten(0, 1), None, None, scale_N, shift_N, training=True)
        return dropout(node(rows.view_as(y)))

    path = f"{_dcls_path(x)}, batch_norm"
    leaves = [x, m.weight, m.P, scale_N, shift_N]
    return Peer(run, leaves, lambda: f"{path}, LIFNode, {lif_path(x.device.type)}, Dropout")


# by row of ops.ROWS: the op's inputs -> its competitor
PEERS: dict[str, Callable[..., Peer]] = {
    "delay_taps": _taps,
    "delay_linear": _linear,
    "delay_integer": _integer,
    "lif": _lif,
    "delay_lif": _block,
}
