"""The scan of recurrent neurons on the CPU: what runs its numba kernels.

Legend: T time steps, B batch, N neurons, K steps that a spike may take, S state variables, C
coefficients.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..neurons import NEURONS
from ..scan import Scan
from ..sizes import up
from ..surrogate import SURROGATES
from .lif import firing
from .lif_kernels import no_settle, no_settle_adjoint, step, step_adjoint
from .recurrent_kernels import G, hear, recurrent_bwd_kernel, recurrent_fwd_kernel, send, walk
from .scan import new_float32, run_tiles
from .specialise import specialise


def _near(*tensors: Tensor) -> list[np.ndarray]:
    return [a.detach().contiguous().numpy() for a in tensors]


def _by_delay(taps_NK: Tensor | None, N: int) -> Tensor:
    """Shares of the delays 0, 1.. of every sender, (K, N)."""
    return torch.ones(1, N) if taps_NK is None else taps_NK.flip(1).T


def _reach(taps_KN: Tensor) -> Tensor:
    """First delay of every sender whose share is not 0, and the one after the last, (2, N)."""
    used, K = (taps_KN != 0).long(), len(taps_KN)
    end = (K - used.flip(0).argmax(0)) * used.amax(0)
    return torch.stack([used.argmax(0), end])


def _coefficients(scan: Scan) -> Tensor:
    rows = torch.zeros(4, scan.x.shape[2])
    for row, value in zip(rows, scan.coefficients, strict=False):
        row.copy_(value)
    return rows


def _how(scan: Scan, weight: Tensor) -> dict:
    n = NEURONS[scan.neuron]
    parts = dict(charge=n.charge, settle=n.settle or no_settle, TWO=len(n.states) == 2)
    return parts | dict(SYNAPTIC=weight.ndim == 3)


def recurrent_fwd(
    scan: Scan,
    weight: Tensor,
    taps_NK: Tensor | None,
    start: Tensor,
    past: Tensor,
    saves: bool,
) -> list[Tensor]:
    """Spikes, (T, B, N); the states after each step, (S, T, B, N); the whole current, (T, B, N);
    and, if there are taps, what of each sender is heard, (T, B, N). Without ``saves`` the states
    after the last step, (S, 1, B, N), and no more.

    All float32. ``start``: the states before the first step, (S, B, N); ``past``: see
    ``reference_recurrent``.
    """
    T, B, N = scan.x.shape
    synaptic, taps_KN = weight.ndim == 3, _by_delay(taps_NK, N)
    w = weight.permute(2, 1, 0).flip(0) if synaptic else weight.T[None]
    s, trace = new_float32(T, B, N), new_float32(len(start), T if saves else 1, B, N)
    z = new_float32(T if saves else 0, B, N)
    u = new_float32(T if saves and taps_NK is not None else 0, B, N)
    kernel = specialise(recurrent_fwd_kernel, (step, send), SAVE=saves, **_how(scan, weight))
    given = scan.x, w, taps_KN, _reach(taps_KN), _coefficients(scan), start, past, s, trace, z, u
    run_tiles(kernel, T * N, B, G, *_near(*given), firing(scan), fixed=True)
    return [s, trace, z, u]


def recurrent_bwd(
    scan: Scan,
    ds_TBN: Tensor,
    dtrace: Tensor | None,
    weight: Tensor,
    taps_NK: Tensor | None,
    start: Tensor,
    past: Tensor,
    s_TBN: Tensor,
    trace: Tensor,
) -> list[Tensor]:
    """Gradients of the whole current, of the coefficients, (C, N), of the states before the first
    step, of ``past``, and, if given, of the taps, (N, K). ``scan.x`` is the whole current here.
    """
    (T, B, N), n = ds_TBN.shape, NEURONS[scan.neuron]
    taps_KN, (K, tiles, R) = _by_delay(taps_NK, N), (len(past), -(-B // G), up(N, 4))
    w = weight.permute(2, 0, 1).flip(0) if weight.ndim == 3 else weight[None]
    w = F.pad(w, (0, 0, 0, R - N))
    kernel = specialise(
        recurrent_bwd_kernel,
        (step, step_adjoint, hear, walk),
        charge_adjoint=n.charge_adjoint,
        settle_adjoint=n.settle_adjoint or no_settle_adjoint,
        slope=SURROGATES[scan.surrogate].slope,
        C=len(scan.coefficients),
        **_how(scan, weight),
    )
    dz, dstart, dpast = new_float32(T, B, N), new_float32(*start.shape), new_float32(K, B, N)
    dp, dtaps = new_float32(tiles, len(scan.coefficients), N), new_float32(tiles, K, N)
    dtrace = new_float32(len(start), 0, 0, 0) if dtrace is None else dtrace
    run_tiles(
        *(kernel, T * N, B, G),
        *_near(ds_TBN, dtrace, w, taps_KN, _coefficients(scan), start, past, s_TBN, trace),
        *_near(scan.x, dz, dstart, dpast, dp, dtaps),
        *(firing(scan), (scan.detach_reset, scan.detach_state), np.float32(scan.alpha)),
        fixed=True,
    )
    found = [dz, dp.sum(0), dstart, dpast]
    return found if taps_NK is None else [*found, dtaps.sum(0).flip(0).T.contiguous()]
