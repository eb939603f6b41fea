"""The definition of recurrent neurons, as reference.py is that of all other ops.

Legend: T steps, B batch, N neurons, K delay taps. Index m sends and n receives.
"""

import torch
from torch import Tensor

from .neurons import Constants, NeuronOptions, State
from .precision import exact
from .reference import lif


def recurrent_current(past_KBN: Tensor, weight: Tensor, taps_NK: Tensor | None = None) -> Tensor:
    """What neurons hear of their own last K spikes, K = 1 without delays.

        r[n] = sum_m W[n, m] sum_i  k[m, i] s[t - K + i, m]        taps of each sending neuron
        r[n] = sum_m sum_i  W[n, m, i] s[t - K + i, m]             a weight for each tap
        r[n] = sum_m W[n, m] s[t - 1, m]                           no delays

    A spike is heard one step later at the earliest, so tap i delays by ``K - 1 - i`` more.

    Args:
        past_KBN: spikes of the K steps before t, the oldest first, (K, B, N), floating.
        weight: (N, N), or (N, N, K) without ``taps_NK``.
        taps_NK: (N, K), or None.

    Returns:
        (B, N) in the dtype of ``past_KBN``, and computed in it under autocast too.

    Source: Queant et al. 2025 (arXiv 2509.24852), the recurrent current.
    """
    with exact(past_KBN):
        if weight.ndim == 3:
            return torch.einsum("kbm,nmk->bn", past_KBN, weight)
        if taps_NK is None:
            return past_KBN[-1] @ weight.T
        return torch.einsum("kbm,mk->bm", past_KBN, taps_NK) @ weight.T


def recurrent_lif(
    x_TBN: Tensor,
    weight: Tensor,
    taps_NK: Tensor | None,
    state: State,
    constants: Constants,
    neuron: str,
    options: NeuronOptions,
    potentials: bool = False,
) -> tuple:
    """Runs neurons that hear each other over all time steps: ``lif`` of ``x[t] + r[t]``, r as
    ``recurrent_current`` makes it of their last spikes.

    ``options.detach_state`` cuts the gradient through the states of neurons and leaves the one
    through recurrent spikes.

    Args:
        x_TBN: feed-forward current, (T, B, N), T >= 1, floating.
        weight, taps_NK: see ``recurrent_current``.
        state: that of the neuron before the first step, as ``lif`` takes it, and last the spikes of
            the K steps before, the oldest first, (K, B, N).
        constants, neuron, options, potentials: see ``lif``.

    Returns:
        Spikes 0/1 in shape and dtype of ``x_TBN``; the state after the last step, in the dtypes of
        ``state``; and, if asked for, the potentials. Computed in float32 or better.

    Source: Queant et al. 2025 (arXiv 2509.24852); neurons as in ``lif``.
    """
    *before, past_KBN = state
    dtype, K = torch.promote_types(x_TBN.dtype, torch.float32), len(past_KBN)
    weight, taps_NK = weight.to(dtype), None if taps_NK is None else taps_NK.to(dtype)
    spikes, after, kinds = [*past_KBN.to(dtype)], [], [v.dtype for v in before]
    before = tuple(v.to(torch.promote_types(v.dtype, torch.float32)) for v in before)
    for x_BN in x_TBN.to(dtype):
        z_BN = x_BN + recurrent_current(torch.stack(spikes[-K:]), weight, taps_NK)
        s_1BN, before, *_ = lif(z_BN[None], before, constants, neuron, options)
        spikes.append(s_1BN[0])
        after.append(before[0])
    ends = [v.to(kind) for v, kind in zip(before, kinds, strict=True)]
    past = torch.stack(spikes[-K:]).to(past_KBN.dtype)
    found = torch.stack(spikes[K:]).to(x_TBN.dtype), (*ends, past)
    return (*found, torch.stack(after)) if potentials else found
