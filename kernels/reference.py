"""The definition of every op in plain PyTorch. A kernel is an optimisation of what stands here.

Legend: T input steps, S = T + extra_steps output steps, B batch, C input channels, N neurons, K
delay taps, E elements per synapse (``kernel_count``), W = ceil(N / 32) words of packed spikes.
Suffixes name the axes: x_TBC, w_ENC, k_NCK. Time constants and delays are in steps of the input.

Everything runs on any device and in any floating type, and autograd differentiates it, so its
float64 gradients are what the kernels' are held to.
"""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import Dropout, keep_mask
from .neurons import NEURONS, Constants, NeuronOptions, State, hold
from .precision import exact
from .synapses import Synapses


def delay_taps(synapses: Synapses) -> Tensor:
    """Delay kernel of every synapse: its elements, spread over the taps around their delay.

        k_i = sum_e  W_e X_i / (sum_j X_j + 1e-7)        d = i - (K // 2 + P_e)

        gauss   X_i = exp(-d^2 / 2 (|SIG| + 0.27)^2)
        max     X_i = max(0, 1 + |SIG| - |d|)
        v1      X_i = max(0, 1 - |d|)
        v0      X_i = 1 - r at floor(K // 2 + P), r at the tap after it, r the fraction; its two
                taps sum to 1 and are not divided

    0.27 and 1 are the widths at SIG = 0: a Gauss whose centre tap holds all but 0.2 % and a
    triangle that interpolates between two taps, so a position always has a gradient. The division
    keeps the sum of a kernel at W whatever its width, also where the window cuts it off.

    Args:
        synapses: weight W and position P (E, N, C), sigma SIG () or (E, N, C), K taps, version.

    Returns:
        (N, C, K) in the dtype of the weight. Tap i delays by ``K - 1 - i`` steps.

    Source: Khalfaoui-Hassani et al. 2023 (arXiv 2306.00817), the versions; Hammouamri et al. 2024
    (arXiv 2306.17670), equations 5 to 7, the Gauss in one dimension.
    """
    w_ENC, p_ENC, sigma, K, version = synapses
    i_K = torch.arange(K, device=p_ENC.device, dtype=p_ENC.dtype)
    centre_ENC1 = p_ENC.unsqueeze(-1) + K // 2
    distance_ENCK = i_K - centre_ENC1
    width = sigma.abs().unsqueeze(-1)  # an optimizer may push SIG below 0; the kernel stays even
    if version == "v0":
        floor = centre_ENC1.floor()
        r = centre_ENC1 - floor
        g_ENCK = torch.where(i_K == floor, 1 - r, 0) + torch.where(i_K == floor + 1, r, 0)
    else:
        if version == "gauss":
            g_ENCK = torch.exp(-0.5 * (distance_ENCK / (width + 0.27)) ** 2)
        else:
            g_ENCK = torch.relu((1 + width if version == "max" else 1) - distance_ENCK.abs())
        # 1e-7: far outside the window all taps underflow, and a synapse is then silent, not NaN
        g_ENCK = g_ENCK / (g_ENCK.sum(-1, keepdim=True) + 1e-7)
    return (w_ENC.unsqueeze(-1) * g_ENCK).sum(0)


def delay_conv(x_TBC: Tensor, k_NCK: Tensor, extra_steps: int = 0) -> Tensor:
    """Input current of neurons that hear every channel through a delay kernel.

        y[t, n] = sum_c sum_i  k[n, c, i] x[t - (K - 1) + i, c]        x = 0 before 0 and from T on

    Causal: the newest input that y[t] sees is x[t], through the last tap.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating.
        k_NCK: taps, (N, C, K), used in the dtype of ``x_TBC``.
        extra_steps: how many steps the output outlasts the input, >= 0.

    Returns:
        (S, B, N) in the dtype of ``x_TBC``, and computed in it under autocast too.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """
    # conv1d correlates, which is what the formula says: tap i multiplies the input at t + i
    x_BCT = F.pad(x_TBC.permute(1, 2, 0), (k_NCK.shape[-1] - 1, extra_steps))
    with exact(x_TBC):
        return F.conv1d(x_BCT, k_NCK.to(x_TBC.dtype)).permute(2, 0, 1)


def delay_linear(x_TBC: Tensor, synapses: Synapses, extra_steps: int = 0) -> Tensor:
    """Synapses with weight and delay: ``delay_conv(x, delay_taps(synapses))``.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating.
        synapses: see ``delay_taps``.
        extra_steps: how many steps the output outlasts the input, >= 0.

    Returns:
        (S, B, N) in the dtype of ``x_TBC``.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """
    return delay_conv(x_TBC, delay_taps(synapses), extra_steps)


def delay_integer(
    x_TBC: Tensor, w_ENC: Tensor, delay_ENC: Tensor, K: int, extra_steps: int = 0
) -> Tensor:
    """Synapses whose delays are whole steps, as a trained network is evaluated.

        y[t, n] = sum_e sum_c  w[e, n, c] x[t - delay[e, n, c], c]

    Up to rounding it is ``delay_linear`` with the version ``max``, SIG = 0 and whole positions.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating.
        w_ENC: weights, (E, N, C); used in the dtype of ``x_TBC``.
        delay_ENC: delays in steps, (E, N, C), integers in 0 ... K - 1.
        K: number of possible delays.
        extra_steps: how many steps the output outlasts the input, >= 0.

    Returns:
        (S, B, N) in the dtype of ``x_TBC``.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2 (discretisation).
    """
    T, B, _ = x_TBC.shape
    y_SBN = x_TBC.new_zeros(T + extra_steps + K, B, w_ENC.shape[1])
    with exact(x_TBC):
        for d in range(K):  # synapses that have this delay; what falls beyond S is cut off below
            y_SBN[d : d + T] += x_TBC @ (w_ENC * (delay_ENC == d)).sum(0).to(x_TBC.dtype).T
    return y_SBN[: T + extra_steps]


def delay_depthwise(x_TBC: Tensor, k_CK: Tensor, extra_steps: int = 0) -> Tensor:
    """Every channel through a delay kernel of its own.

        y[t, c] = sum_i  k[c, i] x[t - (K - 1) + i, c]              x = 0 before 0 and from T on

    Args:
        x_TBC: spikes, counts or currents, (T, B, C), floating.
        k_CK: taps, (C, K), used in the dtype of ``x_TBC``.
        extra_steps: how many steps the output outlasts the input, >= 0.

    Returns:
        (S, B, C) in the dtype of ``x_TBC``, and computed in it under autocast too.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2, with one delay per channel.
    """
    C, K = k_CK.shape
    x_BCT = F.pad(x_TBC.permute(1, 2, 0), (K - 1, extra_steps))
    with exact(x_TBC):
        return F.conv1d(x_BCT, k_CK.to(x_TBC.dtype).unsqueeze(1), groups=C).permute(2, 0, 1)


def pack(s_TBN: Tensor) -> Tensor:
    """Spikes as bits, 32 neurons to a word: bit j of word k is neuron 32 k + j.

    Args:
        s_TBN: (..., N) of any type; a spike is what is not 0.

    Returns:
        (..., W) int32; the bits beyond neuron N - 1 are 0.
    """
    bits_TBW32 = F.pad(s_TBN != 0, (0, -s_TBN.shape[-1] % 32)).unflatten(-1, (-1, 32)).long()
    place = torch.arange(32, device=s_TBN.device)
    return (bits_TBW32 << place).sum(-1).to(torch.int32)  # bit 31 is the sign


def unpack(bits_TBW: Tensor, N: int) -> Tensor:
    """Spikes 0/1 of N neurons, (..., N) float32, from their bits (..., W) int32, see ``pack``."""
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
    potentials: bool = False,
) -> tuple[Tensor, State] | tuple[Tensor, State, Tensor]:
    """Runs a neuron over all time steps. One step of ``lif``, with decay kept out of the input:

        h[t] = (1 - 1/tau) v[t-1] + z[t]        z = x * scale + shift
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t], else h[t]    (hard);  h[t] - v_threshold s[t]  (soft);  h (none)

    The other neurons, and the other ways to charge, are in ``neurons.NEURONS``. The gradient of s
    in h is the surrogate's; ``detach_reset`` cuts it where s enters the reset. With ``refractory``
    r steps, after a spike at t, s[t'] = 0 and v[t'] = v[t] for t' = t + 1 ... t + r.

    Args:
        x_TBN: input current, (T, ..., N), T >= 1, floating.
        state: one tensor (..., N) per state variable before the first step; with ``refractory``
            the steps for which each neuron still is follow.
        constants: of the NEURONS entry by name, (N,), () or float; time constants in steps; and
            ``v_threshold``, if it is not that of the options.
        neuron: a key of NEURONS. options: threshold, reset and surrogate.
        norm: pair (scale, shift), (N,) or () each; None: z = x.
        dropout: of the spikes that leave; those that reset the neuron are never dropped.
        potentials: whether the potential after each step, v[t] above, is returned too.

    Returns:
        Spikes, 0 or 1 (with dropout 0 or 1/(1-p)), in shape and dtype of ``x_TBN``; the state after
        the last step, in the dtypes of ``state``; and, if asked for, the potentials in the shape of
        ``x_TBN``. Computed in float32 or better, and the potentials are returned so.

    Source: LIF Hammouamri et al. 2024 (arXiv 2306.17670), equations 1 to 3; PLIF Fang et al. 2021
    (arXiv 2007.05785); adLIF Baronig et al. 2024 (arXiv 2408.07517); surrogate gradients Neftci et
    al. 2019 (arXiv 1901.09948).
    """
    spikes, after, dtypes = [], [], [v.dtype for v in state]
    # a decay close to 1 is 1 in bfloat16, and a potential would never leak
    z_TBN, state = _exact(x_TBN), tuple(_exact(v) for v in state)
    z_TBN = z_TBN if norm is None else z_TBN * norm[0] + norm[1]
    for z_BN in z_TBN:
        if options.detach_state:
            state = tuple(v.detach() for v in state)
        s_BN, state = _step(z_BN, state, constants, neuron, options)
        spikes.append(s_BN)
        after.append(state[0])
    s_TBN = torch.stack(spikes)  # the dropout comes after the scan: the reset has seen them all
    if dropout is not None:
        T, *B, N = s_TBN.shape
        s_TBN = s_TBN * keep_mask(dropout, T, prod(B), N).view(-1, *B, N)
    state = tuple(v.to(d) for v, d in zip(state, dtypes, strict=True))
    found = s_TBN.to(x_TBN.dtype), state
    return (*found, torch.stack(after)) if potentials else found


def _step(
    z_BN: Tensor, state: State, constants: Constants, neuron: str, options: NeuronOptions
) -> tuple[Tensor, State]:
    step = NEURONS[neuron].step
    if not options.refractory:
        return step(z_BN, state, constants, options)
    *before, left_BN = state
    mask_BN = left_BN > 0
    s_BN, after = step(z_BN, tuple(before), {**constants, "refractory": mask_BN}, options)
    s_BN, v_BN = hold(s_BN, after[0], before[0], mask_BN)
    fired_BN = s_BN.detach() >= 0.5  # a smooth spike is in between
    left_BN = torch.where(fired_BN, float(options.refractory), (left_BN - 1).clamp(min=0))
    return s_BN, (v_BN, *after[1:], left_BN)


def _exact(x: Tensor) -> Tensor:
    """At least float32, so that a sum over time loses nothing to half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def batch_statistics(y_TBN: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each neuron's current over steps and samples.

        mean = sum_tb y / TB        var = sum_tb (y - mean)^2 / TB

    Args:
        y_TBN: (T, B, N), floating.

    Returns:
        mean_N and var_N, (N,) in float32 (float64 for float64).

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1.
    """
    # not E[y^2] - E[y]^2, which cancels where the mean is large beside the deviation
    var_N, mean_N = torch.var_mean(_exact(y_TBN), (0, 1), correction=0)
    return mean_N, var_N


def fold_norm(
    mean_N: Tensor, var_N: Tensor, gamma_N: Tensor | None, beta_N: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """The normalisation as one product and one sum, which a scan can do as it reads its input.

        (y - mean) / sqrt(var + eps) * gamma + beta  =  y * scale + shift

    Args:
        mean_N, var_N: of the batch or running, (N,).
        gamma_N, beta_N: learned scale and shift, (N,); None: 1 and 0.
        eps: added to the variance.

    Returns:
        scale_N and shift_N, (N,).

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithms 1 and 2.
    """
    scale_N = torch.rsqrt(var_N + eps)
    scale_N = scale_N if gamma_N is None else scale_N * gamma_N
    shift_N = -mean_N * scale_N
    return scale_N, shift_N if beta_N is None else shift_N + beta_N


def update_running_(
    mean_N: Tensor,
    var_N: Tensor,
    running_mean_N: Tensor,
    running_var_N: Tensor,
    count: Tensor,
    momentum: float | None,
    rows: int,
) -> None:
    """Moves the running statistics of a BatchNorm towards those of a batch, in place.

        running += part (new - running)        new = mean, and var rows / (rows - 1)

    Args:
        mean_N, var_N: of the batch, biased, (N,).
        running_mean_N, running_var_N: what is moved, (N,).
        count: batches so far, () int64; this one is added.
        momentum: part of the new statistics; None: 1 / count, which is the mean over all batches.
        rows: what the statistics are over, at least 2.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 2.
    """
    count += 1
    dtype = running_mean_N.dtype
    part = (1 / count.double()).to(dtype) if momentum is None else momentum  # no wait for a number
    running_mean_N.lerp_(mean_N.to(dtype), part)
    running_var_N.lerp_(var_N.to(dtype) * (rows / (rows - 1)), part)


def delay_lif(
    x_TBC: Tensor,
    synapses: Synapses,
    gamma_N: Tensor | None,
    beta_N: Tensor | None,
    eps: float,
    extra_steps: int,
    state: State,
    constants: Constants,
    neuron: str,
    options: NeuronOptions,
    dropout: Dropout | None = None,
    potentials: bool = False,
) -> tuple:
    """A layer while training: synapses, BatchNorm over steps and samples, neuron, dropout.

        y = delay_linear(x)        z = (y - mean) / sqrt(var + eps) * gamma + beta        s = lif(z)

    Args:
        x_TBC: spikes or counts, (T, B, C), floating.
        synapses: see ``delay_taps``.
        gamma_N, beta_N, eps: of the normalisation, see ``fold_norm``.
        extra_steps: how many steps the output outlasts the input, >= 0.
        state, constants, neuron, options, dropout, potentials: see ``lif``.

    Returns:
        Spikes, (S, B, N) in the dtype of ``x_TBC``; the state after the last step; mean_N, var_N
        (biased) of y; and, if asked for, the potentials, (S, B, N).

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.
    """
    y_TBN = delay_linear(x_TBC, synapses, extra_steps)
    mean_N, var_N = batch_statistics(y_TBN)
    norm = fold_norm(mean_N, var_N, gamma_N, beta_N, eps)
    given = (constants, neuron, options, norm, dropout, potentials)
    s_TBN, state, *u_TBN = lif(y_TBN, state, *given)
    return s_TBN, state, (mean_N, var_N), *u_TBN


def readout(x_TBN: Tensor, v_BN: Tensor, tau: Tensor | float) -> Tensor:
    """Leaky integrator that never fires.

        v[t] = (1 - 1/tau) v[t-1] + x[t]

    Args:
        x_TBN: input current, (T, ..., N), T >= 1, floating.
        v_BN: potential before the first step, (..., N).
        tau: time constant in steps, >= 1; a float, () or (N,).

    Returns:
        Potential after each step, (T, ..., N), summed in float32 or better, in the dtype of
        ``x_TBN``.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.3.
    """
    trace, v_BN = [], _exact(v_BN)
    for x_BN in _exact(x_TBN):
        v_BN = (1 - 1 / tau) * v_BN + x_BN
        trace.append(v_BN)
    return torch.stack(trace).to(x_TBN.dtype)
