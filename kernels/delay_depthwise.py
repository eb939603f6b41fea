"""Delays of channels: every channel through taps of its own, which costs K products per channel
where delays of synapses cost K per synapse.

Legend: T time steps, S = T + extra_steps, B batch, C channels, K delay taps.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from . import reference
from .dispatch import dispatch, why_not_dtype
from .registered import register, register_differentiable


def _registered(backend: str) -> Callable:
    """Registers the filter of a backend as op ``snndelay::{backend}_delay_depthwise_fwd``, its
    adjoint with _bwd; returns the former.
    """
    raw = cache(lambda: import_module(f".{backend}.delay_depthwise", __package__))

    def fake(x, k, extra_steps):
        return x.new_empty(x.shape[0] + extra_steps, *x.shape[1:])

    def fake_adjoint(g, x, k, need_x, need_k):
        return [torch.empty_like(t) for t, need in ((x, need_x), (k, need_k)) if need]

    adjoint = register(
        f"{backend}_delay_depthwise_bwd(Tensor g, Tensor x, Tensor k, bool need_x, bool need_k) "
        "-> Tensor[]",
        lambda *given: raw().delay_depthwise_bwd(*given),
        fake_adjoint,
    )

    def save(ctx, arguments, result):
        ctx.save_for_backward(*arguments[:2])

    def gradients(ctx, g):
        needs = ctx.needs_input_grad[:2]
        found = iter(adjoint(g.contiguous(), *ctx.saved_tensors, *needs))
        return [next(found) if need else None for need in needs]

    return register_differentiable(
        f"{backend}_delay_depthwise_fwd(Tensor x, Tensor k, int extra_steps) -> Tensor",
        lambda *given: raw().delay_depthwise_fwd(*given),
        fake,
        tensors=lambda x, k, extra_steps: (x, k),
        save=save,
        gradients=gradients,
    )


DEPTHWISE = {
    "triton": _registered("triton"),
    "cpu": _registered("cpu"),
    "reference": reference.delay_depthwise,
}


def delay_depthwise(
    x_TBC: Tensor, k_CK: Tensor, extra_steps: int = 0, backend: str = "auto"
) -> Tensor:
    """Every channel through its own taps, ``y[t, c] = sum_i k[c, i] x[t - (K-1) + i, c]``, causal.

    Args:
        x_TBC: spikes, counts or currents, (T, B, C) with any further axes before C, floating; zero
            before t = 0.
        k_CK: taps, (C, K), or (1, K) for all channels, floating.
        extra_steps: how many steps the output outlasts the input, >= 0.
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.

    Returns:
        (T + extra_steps, B, C) in the dtype of ``x_TBC``, summed in float32 (float64 for float64).
        Differentiable in x and k.

    Raises:
        ValueError: shapes disagree. BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2, with one delay per channel.
    """
    if not x_TBC.is_floating_point() or x_TBC.ndim < 3 or not x_TBC.numel():
        raise ValueError(
            "delay_depthwise: x must be floating, (T, B, C) with at least one step and sample, not "
            f"{tuple(x_TBC.shape)} of {x_TBC.dtype}"
        )
    C = x_TBC.shape[-1]
    if k_CK.ndim != 2 or k_CK.shape[0] not in (1, C) or not k_CK.shape[1]:
        raise ValueError(
            f"delay_depthwise: taps must be ({C}, K) or (1, K) with K >= 1, not {tuple(k_CK.shape)}"
        )
    why_not = why_not_dtype(x_TBC.dtype)
    place = x_TBC.device.type
    run = dispatch("delay_depthwise", DEPTHWISE, backend, place, cpu=why_not, triton=why_not)
    x, k = x_TBC.flatten(1, -2), k_CK.expand(C, -1)
    return run(x, k, extra_steps).unflatten(1, x_TBC.shape[1:-1])
