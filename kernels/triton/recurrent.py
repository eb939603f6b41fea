"""The scan of recurrent neurons in Triton: what launches its kernels.

Legend: T time steps, B batch, N neurons, K steps that a spike may take, S state variables, C
coefficients.
"""

import torch
from torch import Tensor

from ..neurons import NEURONS
from ..scan import Scan
from ..sizes import cdiv
from ..surrogate import SURROGATES
from .device import on_its_device
from .portable import triton_function
from .recurrent_kernels import recurrent_bwd_kernel, recurrent_fwd_kernel

TILE = dict(BB=16, BN=64, BM=32)  # samples, and neurons that receive and send, per block
# pipelined, a load could come before the barrier that it must wait for
LAUNCH = dict(num_warps=8, num_stages=1)


def _arguments(scan: Scan, weight: Tensor, taps_NK: Tensor | None, past: Tensor) -> dict:
    """What both kernels take of a scan and its synapses, but for the weights."""
    T, B, N = scan.x.shape
    names, n = ("c0", "c1", "c2", "c3"), NEURONS[scan.neuron]
    given = [*scan.coefficients, *[None] * 4][:4]
    return dict(
        zip(names, given, strict=True),
        taps=None if taps_NK is None else taps_NK.flip(1).T.contiguous(),
        past=past,
        v_threshold=scan.v_threshold,
        rest=scan.rest,
        T=T,
        B=B,
        N=N,
        K=len(past),
        CHARGE=triton_function(n.charge),
        SETTLE=triton_function(n.settle),
        RESET=scan.reset,
        SYNAPTIC=weight.ndim == 3,
        **TILE,
    )


def recurrent_fwd_arguments(
    scan: Scan, weight: Tensor, taps_NK: Tensor | None, start: Tensor, past: Tensor, saves: bool
) -> dict:
    """All that ``recurrent_fwd_kernel`` takes."""
    x, (T, B, N) = scan.x, scan.x.shape
    w = weight.permute(2, 1, 0).flip(0) if weight.ndim == 3 else weight.T
    trace = x.new_empty(len(start), T, B, N) if saves else start.unsqueeze(1).clone()
    return dict(
        x=x,
        w=w.contiguous(),
        start=start,
        s=torch.empty_like(x),
        trace=trace,
        z=x.new_empty(T if saves else 0, B, N),
        u=x.new_empty(0 if taps_NK is None else T, B, N),
        SAVE=saves,
        **_arguments(scan, weight, taps_NK, past),
    )


def recurrent_bwd_arguments(
    scan: Scan,
    ds_TBN: Tensor,
    dtrace: Tensor | None,
    weight: Tensor,
    taps_NK: Tensor | None,
    start: Tensor,
    past: Tensor,
    s_TBN: Tensor,
    trace: Tensor,
) -> dict:
    """All that ``recurrent_bwd_kernel`` takes."""
    z, (_, B, N) = scan.x, scan.x.shape
    w = weight.permute(2, 0, 1).flip(0) if weight.ndim == 3 else weight
    some, programs = taps_NK is not None, cdiv(B, TILE["BB"])
    d = [z.new_zeros(B, N) for _ in scan.coefficients]
    names = ("d0", "d1", "d2", "d3")
    return dict(
        zip(names, [*d, *[None] * 4][:4], strict=True),
        ds=ds_TBN,
        dtrace=dtrace,
        w=w.contiguous(),
        start=start,
        s=s_TBN,
        trace=trace,
        z=z,
        dz=torch.empty_like(z),
        du=torch.empty_like(z) if some else None,
        dstart=torch.zeros_like(start),
        dpast=torch.empty_like(past),
        dtaps=z.new_zeros(programs, len(past), N) if some else None,
        alpha=scan.alpha,
        CHARGE_ADJOINT=triton_function(NEURONS[scan.neuron].charge_adjoint),
        SETTLE_ADJOINT=triton_function(NEURONS[scan.neuron].settle_adjoint),
        SLOPE=triton_function(SURROGATES[scan.surrogate].slope),
        DETACH_RESET=scan.detach_reset,
        DETACH_STATE=scan.detach_state,
        **_arguments(scan, weight, taps_NK, past),
    )


@on_its_device
def _launch(x_TBN: Tensor, kernel, arguments: dict) -> None:
    # no fused multiply-add outside the products: potentials are then those of the reference
    programs = cdiv(x_TBN.shape[1], TILE["BB"])
    kernel[(programs,)](**arguments, **LAUNCH, enable_fp_fusion=False)


def recurrent_fwd(
    scan: Scan, weight: Tensor, taps_NK: Tensor | None, start: Tensor, past: Tensor, saves: bool
) -> list[Tensor]:
    """As ``cpu.recurrent.recurrent_fwd``."""
    a = recurrent_fwd_arguments(scan, weight, taps_NK, start, past, saves)
    _launch(scan.x, recurrent_fwd_kernel, a)
    return [a["s"], a["trace"], a["z"], a["u"] if saves else a["u"][:0].clone()]


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
    """As ``cpu.recurrent.recurrent_bwd``."""
    given = (ds_TBN, dtrace, weight, taps_NK, start, past, s_TBN, trace)
    a = recurrent_bwd_arguments(scan, *given)
    _launch(scan.x, recurrent_bwd_kernel, a)
    N, C, dtaps = scan.x.shape[2], len(scan.coefficients), a["dtaps"]
    sums = [a[f"d{i}"].sum(0) for i in range(C)]
    rows = torch.stack(sums) if sums else scan.x.new_empty(0, N)
    found = [a["dz"], rows, a["dstart"], a["dpast"]]
    return found if dtaps is None else [*found, dtaps.sum(0).flip(0).T.contiguous()]
