"""The definition of every op in plain PyTorch. A kernel is an optimisation of what stands here.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse
(``kernel_count``).
Suffixes name the axes: x_TBC, w_ENC, k_NCK. Time constants and delays are in steps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .steps import NEURONS, Constants, NeuronOptions, State


def delay_taps(w_ENC: Tensor, p_ENC: Tensor, sigma: Tensor, K: int, version: str) -> Tensor:
    i_K = torch.arange(K, device=p_ENC.device, dtype=p_ENC.dtype)
    centre_ENC1 = p_ENC.unsqueeze(-1) + K // 2
    distance_ENCK = i_K - centre_ENC1
    width = sigma.abs().unsqueeze(-1)
    if version == "v0":
        floor = centre_ENC1.floor()
        r = centre_ENC1 - floor
        g_ENCK = torch.where(i_K == floor, 1 - r, 0) + torch.where(i_K == floor + 1, r, 0)
    else:
        if version == "gauss":
            g_ENCK = torch.exp(-0.5 * (distance_ENCK / (width + 0.27)) ** 2)
        else:
            g_ENCK = torch.relu((1 + width if version == "max" else 1) - distance_ENCK.abs())
        g_ENCK = g_ENCK / (g_ENCK.sum(-1, keepdim=True) + 1e-7)
    return (w_ENC.unsqueeze(-1) * g_ENCK).sum(0)


def delay_conv(x_TBC: Tensor, k_NCK: Tensor, extra_steps: int = 0) -> Tensor:
    x_BCT = F.pad(x_TBC.permute(1, 2, 0), (k_NCK.shape[-1] - 1, extra_steps))
    return F.conv1d(x_BCT, k_NCK).permute(2, 0, 1)


def delay_linear(
    x_TBC: Tensor,
    w_ENC: Tensor,
    p_ENC: Tensor,
    sigma: Tensor,
    K: int,
    version: str,
    extra_steps: int = 0,
) -> Tensor:
    return delay_conv(x_TBC, delay_taps(w_ENC, p_ENC, sigma, K, version), extra_steps)


def lif(
    x_TBN: Tensor, state: State, constants: Constants, neuron: str, options: NeuronOptions
) -> tuple[Tensor, State]:
    step, spikes = NEURONS[neuron].step, []
    for x_BN in x_TBN:
        s_BN, state = step(x_BN, state, constants, options)
        spikes.append(s_BN)
    return torch.stack(spikes), state


def readout(x_TBN: Tensor, v_BN: Tensor, tau: Tensor | float) -> Tensor:
    trace = []
    for x_BN in x_TBN:
        v_BN = (1 - 1 / tau) * v_BN + x_BN
        trace.append(v_BN)
    return torch.stack(trace)
