"""How the kernels of the delay convolution are launched: tiles, buffers, grids.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K taps, E elements per
synapse, P parts of an operand, R rows t * B + b, O outputs and I inputs of one direction.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..sizes import cdiv, up
from ..synapses import Synapses
from .delay_kernels import (
    delay_coef_kernel,
    delay_conv_kernel,
    delay_dw_kernel,
    delay_dw_sum_kernel,
    delay_split_kernel,
)

KINDS = {"v0": 0, "v1": 1, "max": 1, "gauss": 2}  # bilinear, triangle, Gaussian

# -- launch settings ---


class ConvConfig(NamedTuple):
    """Tile of ``delay_conv_kernel``: outputs, inputs, rows. Inputs stay 16, so that the choice of a
    tile does not change the order of a sum.
    """

    BO: int
    BI: int
    BM: int
    num_warps: int
    num_stages: int


class DwConfig(NamedTuple):
    """Tile of ``delay_dw_kernel``: neurons, channels, taps, rows; rows after which sums restart."""

    BN: int
    BC: int
    TAPS: int
    BM: int
    RESTART: int
    num_warps: int
    num_stages: int


FUSED, ROUNDED = dict(enable_fp_fusion=True), dict(enable_fp_fusion=False)  # a * b + c
SPLIT = dict(BR=32, BC=64)  # tile of the kernels that cut into parts
PARTS = {"highest": 3, "default": 2, "fast": 1}
FILL = 132  # programs: one for each processor of the largest GPU
CONV_CONFIGS = {
    "highest": ConvConfig(64, 16, 128, 4, 4),
    "default": ConvConfig(64, 16, 256, 4, 4),
    "fast": ConvConfig(128, 16, 256, 8, 4),
    "small": ConvConfig(64, 16, 64, 4, 4),
}
DW_CONFIGS = {
    "highest": DwConfig(128, 64, 2, 32, 512, 8, 3),
    "wide": DwConfig(128, 64, 4, 32, 0, 8, 3),
    "narrow": DwConfig(
        128, 64, 2, 32, 0, 8, 3
    ),  # registers for a SIG of each synapse, and triangles
}


def _conv_config(rows: int, outputs: int, precision: str) -> ConvConfig:
    """The tile of the precision, or a small one where that would leave processors idle. A table
    instead of timing: two processes must choose alike or differ in bits.
    """
    config = CONV_CONFIGS[precision]
    programs = cdiv(rows, config.BM) * cdiv(outputs, config.BO)
    return config if programs >= FILL else CONV_CONFIGS["small"]


@cache
def _constants(config: ConvConfig | DwConfig) -> dict:
    """What a kernel takes of its tile."""
    return config._asdict() | FUSED


def dw_config(precision: str, version: str, shared: bool, with_sigma: bool) -> DwConfig:
    """The widest tile whose moments fit into registers beside the sums."""
    if precision == "highest":
        return DW_CONFIGS["highest"]
    return DW_CONFIGS["wide" if version == "gauss" and shared and not with_sigma else "narrow"]


# -- launchers ---


def planes_of(x_TBC: Tensor, parts: int) -> Tensor:
    """Memory for so many parts of x: (P, T * B, C rounded up to 16)."""
    T, B, C = x_TBC.shape
    return x_TBC.new_empty((parts, T * B, up(C, 16)), dtype=torch.bfloat16)


def split(x_TBC: Tensor, parts: int, count: bool = False) -> tuple[Tensor, Tensor | None]:
    """Parts of x in bfloat16, (P, T * B, C rounded up to 16); with ``count`` also how many of them
    are not all zero, by block of rows, None if P is 1.
    """
    T, B, C = x_TBC.shape
    x_TBC = x_TBC.contiguous()
    parts = min(parts, {torch.bfloat16: 1, torch.float16: 2}.get(x_TBC.dtype, 3))
    if x_TBC.dtype == torch.bfloat16 and C % 16 == 0 and x_TBC.data_ptr() % 16 == 0:
        return x_TBC.view(1, T * B, C), None
    programs = cdiv(T * B, SPLIT["BR"])
    planes, used = planes_of(x_TBC, parts), None
    if count and parts > 1:
        used = x_TBC.new_empty((programs,), dtype=torch.int32)
    delay_split_kernel[(programs,)](
        x_TBC, planes, used, T * B, C, planes.shape[2], P=parts, **SPLIT, **ROUNDED
    )
    return planes, used


def split_input(x_TBC: Tensor, precision: str) -> tuple[Tensor, Tensor | None]:
    """Parts of a layer's input: spikes and counts need one, and ``highest`` counts whether they
    do.
    """
    return split(x_TBC, 3, True) if precision == "highest" else split(x_TBC, 1)


def keeps_planes(x_TBC: Tensor, precision: str) -> bool:
    """Whether the backward pass takes the parts of x that the forward pass made: one is half of a
    float32 input, three would be more than it, and a bfloat16 input is its own part.
    """
    return precision != "highest" and x_TBC.dtype != torch.bfloat16


def case_of(synapses: Synapses) -> dict[str, object]:
    """What a kernel is compiled for: the shape of the taps, and whether all share one width."""
    return dict(KIND=KINDS[synapses.version], SHARED=synapses.sigma.numel() == 1)


def coefficients(synapses: Synapses, sign: int) -> Tensor:
    """Of every synapse: position, weight over the sum of the taps and, unless shared, scale, (2 or
    3, E, pitch_o, pitch_i), outputs first: N x C forward (sign -1), else C x N.
    """
    w, p, sigma, K, _ = synapses
    (E, N, C), case = w.shape, case_of(synapses)
    (O, I), strides = ((N, C), (C, 1)) if sign < 0 else ((C, N), (1, C))
    pitch_o, pitch_i = up(O, 128), up(I, 16)  # whole tiles, read without a mask
    coef = w.new_empty((2 if case["SHARED"] else 3, E, pitch_o, pitch_i))
    n = coef[0].numel()
    delay_coef_kernel[(cdiv(n, 256),)](
        w, p, sigma, coef, K, O, I, N * C, *strides, pitch_o, pitch_i, n,
        **case, BLOCK=256, **ROUNDED,
    )  # fmt: skip
    return coef


def conv(
    planes: Tensor,
    used: Tensor | None,
    synapses: Synapses,
    shape: tuple[int, int],
    sign: int,
    precision: str,
    dtype: torch.dtype,
    stats: bool = False,
) -> tuple[Tensor, Tensor | None, int]:
    """Output of ``shape`` (steps, B): forward (sign -1) or transposed (+1); if ``stats``, mean and
    sum of squared deviations of blocks of rows, (G, 2, outputs); and the rows of a block.
    """
    (T_out, B), (E, N, C) = shape, synapses.weight.shape
    O, rows = N if sign < 0 else C, T_out * B
    coef = coefficients(synapses, sign)
    c = _conv_config(rows, O, precision)
    blocks = cdiv(rows, c.BM)
    y = planes.new_empty((T_out, B, O), dtype=dtype)
    partial = coef.new_empty((blocks, 2, O)) if stats else None
    delay_conv_kernel[(blocks * cdiv(O, c.BO),)](
        planes, used, coef, synapses.sigma, y, partial, 0 if used is None else len(used),
        B, planes.shape[1] // B, T_out, synapses.K, O,
        coef.shape[2], coef.shape[3] // 16, planes.shape[2] // 16, E,
        SIGN=sign, **case_of(synapses), P=PARTS[precision],
        XP=planes.shape[0], RESTART=precision == "highest", STATS=stats, **_constants(c),
    )  # fmt: skip
    return y, partial, c.BM


def weight_gradient(
    dy_PRN: Tensor,
    x_PRC: Tensor,
    used: Tensor | None,
    B: int,
    synapses: Synapses,
    precision: str,
    with_sigma: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of w, p and sigma (the last empty unless ``with_sigma``), each (E, N, C)."""
    w, p, sigma, K, version = synapses
    (E, N, C), shared = w.shape, sigma.numel() == 1
    c = dw_config(precision, version, shared, with_sigma)
    tiles, groups = cdiv(N, c.BN) * cdiv(C, c.BC), cdiv(K, c.TAPS)
    rows = dy_PRN.shape[1]
    chunks = min(cdiv(2 * FILL, tiles * groups), cdiv(rows, 512))
    chunk = up(cdiv(rows, chunks), c.BM)
    moments = 3 if with_sigma else 2
    part = w.new_empty((chunks * groups, moments, E, N, C))
    case = dict(**case_of(synapses), MOMENTS=moments)
    delay_dw_kernel[(tiles, groups, chunks)](
        dy_PRN, x_PRC, used, p, sigma, part, 0 if used is None else len(used),
        B, x_PRC.shape[1] // B, rows // B, K, N, C,
        dy_PRN.shape[2] // 16, x_PRC.shape[2] // 16, E, chunk,
        P=PARTS[precision], XP=x_PRC.shape[0], YP=dy_PRN.shape[0], **case, **_constants(c),
    )  # fmt: skip
    dw, dp = torch.empty_like(w), torch.empty_like(w)
    dsigma = torch.empty_like(w) if with_sigma else w.new_empty(0)
    delay_dw_sum_kernel[(cdiv(dw.numel(), 128),)](
        part, w, p, sigma, dw, dp, dsigma, part.shape[0], K, dw.numel(),
        **case, BLOCK=128, **ROUNDED,
    )  # fmt: skip
    return dw, dp, dsigma
