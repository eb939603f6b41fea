"""Compiled CPU kernels (numba): the scan of leaky neurons, forward and adjoint, one thread per
sample.

Legend: T time steps, B batch, N neurons. h potential before the reset; it is all that the adjoint
needs.
"""

import math

import numpy as np
import torch
from numba import config, njit, prange, set_num_threads
from torch import Tensor

from .lif import COMPILED_SURROGATES
from .steps import Constants, NeuronOptions, State
from .surrogate import SLAYER_SCALE

SURROGATE_CODE = {name: i for i, name in enumerate(COMPILED_SURROGATES)}  # as in _derivative
RESET_CODE = {"hard": 0, "soft": 1, "none": 2}


@njit(inline="always")
def _derivative(u, code, alpha):
    if code == 0:  # atan
        z = np.float32(math.pi / 2) * alpha * u
        return np.float32(0.5) * alpha / (np.float32(1) + z * z)
    if code == 1:  # sigmoid
        s = np.float32(1) / (np.float32(1) + np.exp(-alpha * u))
        return alpha * s * (np.float32(1) - s)
    if code == 2:  # triangle
        return max(alpha - abs(u), np.float32(0)) / (alpha * alpha)
    if code == 3:  # piecewise quadratic
        return max(alpha - alpha * alpha * abs(u), np.float32(0))
    return np.float32(SLAYER_SCALE / 2) * alpha * np.exp(-alpha * abs(u))  # slayer


@njit(parallel=True, cache=True)
def lif_fwd(x, v0, keep, gain, rest, threshold, reset, h, s, v_T):
    """h = keep (v - rest) + rest + gain x, fires at h >= threshold; x, h, s (T, B, N), keep and
    gain (N,).
    """
    T, B, N = x.shape
    for b in prange(B):
        v = v0[b].copy()
        for t in range(T):
            for n in range(N):
                u = keep[n] * (v[n] - rest) + rest + gain[n] * x[t, b, n]
                fired = np.float32(u >= threshold)
                h[t, b, n] = u
                s[t, b, n] = fired
                if reset == 0:
                    v[n] = u + fired * (rest - u)
                elif reset == 1:
                    v[n] = u - fired * threshold
                else:
                    v[n] = u
        v_T[b] = v


@njit(parallel=True, cache=True)
def lif_bwd(
    ds,
    dv_T,
    h,
    v0,
    x,
    keep,
    gain,
    rest,
    threshold,
    reset,
    detach,
    code,
    alpha,
    dx,
    dv0,
    dkeep,
    dgain,
):
    """Adjoint of lif_fwd. dkeep and dgain are (B, N): one row per sample, summed by the caller (no
    atomics).
    """
    T, B, N = ds.shape
    for b in prange(B):
        g = dv_T[b].copy()  # gradient of the potential after the reset
        for t in range(T - 1, -1, -1):
            for n in range(N):
                u = h[t, b, n]
                fired = np.float32(u >= threshold)
                slope = _derivative(u - threshold, code, alpha)
                gs = ds[t, b, n]
                if reset == 0:
                    if not detach:
                        gs += g[n] * (rest - u)
                    gh = g[n] * (np.float32(1) - fired) + gs * slope
                else:
                    if reset == 1 and not detach:
                        gs -= g[n] * threshold
                    gh = g[n] + gs * slope
                if t > 0:
                    w = h[t - 1, b, n]
                    before = np.float32(w >= threshold)
                    if reset == 0:
                        v = w + before * (rest - w)
                    elif reset == 1:
                        v = w - before * threshold
                    else:
                        v = w
                else:
                    v = v0[b, n]
                dx[t, b, n] = gh * gain[n]
                dkeep[b, n] += gh * (v - rest)
                dgain[b, n] += gh * x[t, b, n]
                g[n] = gh * keep[n]
        dv0[b] = g


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, v0, keep, gain, o: NeuronOptions):
        _use_torch_threads()
        rest = o.v_reset if o.reset == "hard" else 0.0
        ctx.scalars = (np.float32(rest), np.float32(o.v_threshold), RESET_CODE[o.reset])
        ctx.o = o
        h, s, v_T = torch.empty_like(x), torch.empty_like(x), torch.empty_like(v0)
        lif_fwd(*_numpy(x, v0, keep, gain), *ctx.scalars, *_numpy(h, s, v_T))
        ctx.save_for_backward(x, v0, keep, gain, h)
        return s, v_T

    @staticmethod
    def backward(ctx, *grads: Tensor):
        x, v0, keep, gain, h = ctx.saved_tensors
        ds, dv_T = (g.contiguous() for g in grads)
        dx, dv0 = torch.empty_like(x), torch.empty_like(v0)
        dkeep, dgain = torch.zeros_like(v0), torch.zeros_like(v0)
        o = ctx.o
        surrogate = (o.detach_reset, SURROGATE_CODE[o.surrogate], np.float32(o.alpha))
        out = _numpy(dx, dv0, dkeep, dgain)
        lif_bwd(*_numpy(ds, dv_T, h, v0, x, keep, gain), *ctx.scalars, *surrogate, *out)
        return dx, dv0, dkeep.sum(0), dgain.sum(0), None


class _Readout(torch.autograd.Function):
    """The scan without a threshold; its adjoint is the same scan backwards in time."""

    @staticmethod
    def forward(ctx, x, v0, keep):
        v = _integrate(x, v0, keep)
        ctx.save_for_backward(v, v0, keep)
        return v

    @staticmethod
    def backward(ctx, *grads: Tensor):
        v, v0, keep = ctx.saved_tensors
        dx = _integrate(grads[0].flip(0).contiguous(), torch.zeros_like(v0), keep).flip(0)
        before = torch.cat([v0.unsqueeze(0), v[:-1]])
        return dx, dx[0] * keep, (dx * before).sum((0, 1))


def _integrate(x: Tensor, v0: Tensor, keep: Tensor) -> Tensor:
    _use_torch_threads()
    v, s, v_T = torch.empty_like(x), torch.empty_like(x), torch.empty_like(v0)
    never, gain = np.float32(np.inf), torch.ones_like(keep)
    scalars = (np.float32(0), never, RESET_CODE["none"])
    lif_fwd(*_numpy(x, v0, keep, gain), *scalars, *_numpy(v, s, v_T))
    return v


def _use_torch_threads() -> None:
    set_num_threads(min(torch.get_num_threads(), config.NUMBA_NUM_THREADS))


def _numpy(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().numpy() for t in tensors]


# -- the backend "cpu" of lif.py ---


def lif(
    x_TBN: Tensor, state: State, constants: Constants, neuron: str, options: NeuronOptions
) -> tuple[Tensor, State]:
    shape = x_TBN.shape
    if neuron == "lif":
        leak = 1 / torch.as_tensor(constants["tau"], dtype=torch.float32)
    elif neuron == "plif":
        leak = torch.sigmoid(torch.as_tensor(constants["w"], dtype=torch.float32))
    else:
        leak = torch.zeros(())
    leak = leak.expand(shape[-1]).contiguous()
    gain = leak if options.decay_input and neuron != "if" else torch.ones_like(leak)
    x = x_TBN.contiguous().view(shape[0], -1, shape[-1])
    v0 = state[0].contiguous().view(-1, shape[-1])
    s, v_T = _Scan.apply(x, v0, 1 - leak, gain, options)
    return s.view(shape), (v_T.view(shape[1:]),)


def readout(x_TBN: Tensor, v_BN: Tensor, tau: Tensor | float) -> Tensor:
    keep = 1 - 1 / torch.as_tensor(tau, dtype=torch.float32)
    return _Readout.apply(
        x_TBN.contiguous(), v_BN.contiguous(), keep.expand(x_TBN.shape[-1]).contiguous()
    )
