"""The definition of every op in plain PyTorch. A kernel is an optimisation of what stands here.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse
(``kernel_count``).
Suffixes name the axes: x_TBC, w_ENC, k_NCK. Time constants and delays are in steps.
"""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import Dropout, keep_mask
from .neurons import NEURONS, Constants, NeuronOptions, State


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
    return F.conv1d(x_BCT, k_NCK.to(x_TBC.dtype)).permute(2, 0, 1)


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


def delay_integer(
    x_TBC: Tensor, w_ENC: Tensor, delay_ENC: Tensor, K: int, extra_steps: int = 0
) -> Tensor:
    T, B, _ = x_TBC.shape
    y_SBN = x_TBC.new_zeros(T + extra_steps + K, B, w_ENC.shape[1])
    for d in range(K):
        y_SBN[d : d + T] += x_TBC @ (w_ENC * (delay_ENC == d)).sum(0).to(x_TBC.dtype).T
    return y_SBN[: T + extra_steps]


def pack(s_TBN: Tensor) -> Tensor:
    bits_TBW32 = F.pad(s_TBN != 0, (0, -s_TBN.shape[-1] % 32)).unflatten(-1, (-1, 32)).long()
    place = torch.arange(32, device=s_TBN.device)
    return (bits_TBW32 << place).sum(-1).to(torch.int32)  # bit 31 is the sign


def unpack(bits_TBW: Tensor, N: int) -> Tensor:
    place = torch.arange(32, device=bits_TBW.device, dtype=torch.int32)
    return (bits_TBW.unsqueeze(-1) >> place & 1).flatten(-2)[..., :N].float()


def lif(
    x_TBN: Tensor,
    state: State,
    constants: Constants,
    neuron: str,
    options: NeuronOptions,
    norm: tuple[Tensor, Tensor] | None = None,
    dropout: Dropout | None = None,
) -> tuple[Tensor, State]:
    step, spikes, dtypes = NEURONS[neuron].step, [], [v.dtype for v in state]
    z_TBN, *state = (_exact(t) for t in (x_TBN, *state))
    z_TBN = z_TBN if norm is None else z_TBN * norm[0] + norm[1]
    for z_BN in z_TBN:
        if options.detach_state:
            state = tuple(v.detach() for v in state)
        s_BN, state = step(z_BN, state, constants, options)
        spikes.append(s_BN)
    s_TBN = torch.stack(spikes)
    if dropout is not None:
        T, *B, N = s_TBN.shape
        s_TBN = s_TBN * keep_mask(dropout, T, prod(B), N).view(-1, *B, N)
    return s_TBN.to(x_TBN.dtype), tuple(v.to(d) for v, d in zip(state, dtypes, strict=True))


def _exact(x: Tensor) -> Tensor:
    """At least float32, so that a sum over time loses nothing to half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def batch_statistics(y_TBN: Tensor) -> tuple[Tensor, Tensor]:
    var_N, mean_N = torch.var_mean(_exact(y_TBN), (0, 1), correction=0)
    return mean_N, var_N


def fold_norm(
    mean_N: Tensor, var_N: Tensor, gamma_N: Tensor | None, beta_N: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """``(y - mean) / sqrt(var + eps) * gamma + beta`` as the (scale, shift) of ``y * scale +
    shift``; None for gamma and beta means 1 and 0.
    """
    scale_N = torch.rsqrt(var_N + eps)
    scale_N = scale_N if gamma_N is None else scale_N * gamma_N
    shift_N = -mean_N * scale_N
    return scale_N, shift_N if beta_N is None else shift_N + beta_N


def delay_lif(
    x_TBC: Tensor,
    synapses: tuple[Tensor, Tensor, Tensor, int, str, int],
    gamma_N: Tensor | None,
    beta_N: Tensor | None,
    eps: float,
    *neuron,
) -> tuple[Tensor, State, tuple[Tensor, Tensor]]:
    y_TBN = delay_linear(x_TBC, *synapses)
    mean_N, var_N = batch_statistics(y_TBN)
    norm = fold_norm(mean_N, var_N, gamma_N, beta_N, eps)
    state, constants, name, options, dropout = neuron
    s_TBN, state = lif(y_TBN, state, constants, name, options, norm, dropout)
    return s_TBN, state, (mean_N, var_N)


def readout(x_TBN: Tensor, v_BN: Tensor, tau: Tensor | float) -> Tensor:
    trace, v_BN = [], _exact(v_BN)
    for x_BN in _exact(x_TBN):
        v_BN = (1 - 1 / tau) * v_BN + x_BN
        trace.append(v_BN)
    return torch.stack(trace).to(x_TBN.dtype)
