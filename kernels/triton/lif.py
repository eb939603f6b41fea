"""The scan of any NEURONS entry in Triton: what launches its kernels.

Legend: T time steps, B batch, N neurons, W = ceil(N / 32) words of packed spikes.
"""

import torch
from torch import Tensor

from ..neurons import NEURONS
from ..scan import Scan
from ..sizes import cdiv
from ..surrogate import SURROGATES
from .lif_kernels import lif_bwd_kernel, lif_fwd_kernel
from .portable import triton_function
from .scan import launch

STEPS = 8  # per checkpoint and per chunk of the adjoint; 16 take all registers there
STEPS_FWD = 16  # per chunk of the forward kernel, a multiple of STEPS
PACKS = True


def _scan_arguments(scan: Scan) -> dict:
    """What both kernels take of a scan."""
    # an absent coefficient is None, and Triton compiles what depends on it away
    c0, c1, c2, c3 = [*scan.coefficients, *[None] * 4][:4]
    return dict(
        x=scan.x,
        scale=scan.scale,
        shift=scan.shift,
        c0=c0,
        c1=c1,
        c2=c2,
        c3=c3,
        seed=scan.seed,
        v_threshold=scan.v_threshold,
        rest=scan.rest,
        p_drop=scan.p_drop,
        factor=1.0 if scan.seed is None else 1 / (1 - scan.p_drop),
        CHARGE=triton_function(NEURONS[scan.neuron].charge),
        SETTLE=triton_function(NEURONS[scan.neuron].settle),
        RESET=scan.reset,
        MASK=None if scan.seed is None else scan.mask,
    )


def lif_fwd_arguments(
    scan: Scan, states: list[Tensor], packed: bool = False, potentials: bool = False
) -> dict:
    """All that ``lif_fwd_kernel`` takes but sizes; ``packed``: bits and last states are enough."""
    T, B, N = scan.x.shape
    v0, w0 = [*states, None, None][:2]
    n = len(NEURONS[scan.neuron].states)
    saved = (cdiv(T, STEPS), n, B, N)
    dtypes = [v.dtype for v in states] or [torch.float32] * n
    v_end, w_end = [*(scan.x.new_empty((B, N), dtype=d) for d in dtypes), None][:2]
    return dict(
        v0=v0,
        w0=w0,
        s=None if packed else scan.x.new_empty((T, B, N)),
        u=scan.x.new_empty((T, B, N), dtype=torch.float32) if potentials else None,
        bits=scan.x.new_empty((T, B, cdiv(N, 32)), dtype=torch.int32),
        v_end=v_end,
        w_end=w_end,
        checkpoints=None if packed else scan.x.new_empty(saved, dtype=torch.float32),
        PERIOD=STEPS,
        **_scan_arguments(scan),
    )


def lif_bwd_arguments(
    scan: Scan,
    ds_TBN: Tensor,
    dstates_T: list[Tensor],
    checkpoints: Tensor,
    bits: Tensor,
    starts: bool = True,
    constants: bool = True,
    du_TBN: Tensor | None = None,
) -> dict:
    """All that ``lif_bwd_kernel`` takes but sizes."""
    _, B, N = ds_TBN.shape
    dv_end, dw_end = [*dstates_T, None, None][:2]
    shared, first = _scan_arguments(scan), []
    if starts:
        dtypes = [v.dtype for v in dstates_T] or [torch.float32] * checkpoints.shape[1]
        first = [ds_TBN.new_empty((B, N), dtype=d) for d in dtypes]
    dv0, dw0 = [*first, None, None][:2]
    n = 2 * (scan.scale is not None) + constants * len(scan.coefficients)
    return dict(
        ds=ds_TBN,
        dv_end=dv_end,
        dw_end=dw_end,
        du=du_TBN,
        checkpoints=checkpoints,
        bits=bits,
        dx=scan.x.new_empty(ds_TBN.shape),
        dv0=dv0,
        dw0=dw0,
        partials=ds_TBN.new_empty((n, B, N), dtype=torch.float32),
        alpha=scan.alpha,
        CHARGE_ADJOINT=triton_function(NEURONS[scan.neuron].charge_adjoint),
        SETTLE_ADJOINT=triton_function(NEURONS[scan.neuron].settle_adjoint),
        SLOPE=triton_function(SURROGATES[scan.surrogate].slope),
        DETACH_RESET=scan.detach_reset,
        DETACH_STATE=scan.detach_state,
        CONSTANTS=constants,
        **shared,
    )


def lif_fwd(scan: Scan, states: list[Tensor], potentials: bool = False) -> list[Tensor]:
    """Scan of a neuron over all steps, computed in float32.

    Args:
        scan: neuron, input and dropout.
        states: state variables before the first step, (B, N) each; none: at rest.
        potentials: whether the potential after each step is wanted.

    Returns:
        Spikes after dropout (dtype of x), the states after the last step (dtypes of the first, or
        float32), checkpoints (ceil(T/8), number of states, B, N) float32, the packed spikes before
        dropout, (T, B, W) int32, and, if wanted, the potentials, (T, B, N) float32.
    """
    a = lif_fwd_arguments(scan, states, potentials=potentials)
    launch(scan.x, lif_fwd_kernel, STEPS_FWD, a)
    ends = _present(a["v_end"], a["w_end"])
    return [a["s"], *ends, a["checkpoints"], a["bits"], *_present(a["u"])]


def lif_fwd_packed(scan: Scan, states: list[Tensor]) -> list[Tensor]:
    """``lif_fwd`` for evaluation: returns the packed spikes (T, B, W) int32 and the states after
    the last step, and writes nothing else. Without dropout.
    """
    a = lif_fwd_arguments(scan, states, packed=True)
    launch(scan.x, lif_fwd_kernel, STEPS_FWD, a)
    return [a["bits"], *_present(a["v_end"], a["w_end"])]


def _present(*tensors: Tensor | None) -> list[Tensor]:
    return [t for t in tensors if t is not None]


def lif_bwd(
    scan: Scan,
    ds_TBN: Tensor,
    dstates_T: list[Tensor],
    checkpoints: Tensor,
    bits: Tensor,
    starts: bool = True,
    constants: bool = True,
    du_TBN: Tensor | None = None,
) -> list[Tensor]:
    """Adjoint of ``lif_fwd``.

    Args:
        scan: as given to it.
        ds_TBN: gradient of the spikes, (T, B, N).
        dstates_T: gradients of the states after the last step, (B, N) each; none: 0.
        checkpoints, bits: what it recorded.
        starts, constants: whether the gradients of the first states and of the coefficients are
            wanted.
        du_TBN: gradient of the potentials, (T, B, N) float32; None: 0.

    Returns:
        Gradients of x (its dtype); of scale, shift (if there are any) and coefficients, the rows
        of (n, N) float32; and of the first states (dtypes of ``dstates_T``, or float32).
    """
    a = lif_bwd_arguments(scan, ds_TBN, dstates_T, checkpoints, bits, starts, constants, du_TBN)
    launch(scan.x, lif_bwd_kernel, STEPS, a)
    # every sample wrote its own: no atomics, so the same bits every time
    return [a["dx"], a["partials"].sum(1), *_present(a["dv0"], a["dw0"])]
