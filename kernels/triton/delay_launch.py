"""How the kernels of the delay convolution are launched: tiles, buffers, grids.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K taps, E elements per
synapse, P parts of an operand, R rows t * B + b, O outputs and I inputs of one direction.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..dispatch import Variant
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
    programs = triton.cdiv(rows, config.BM) * triton.cdiv(outputs, config.BO)
    return config if programs >= FILL else CONV_CONFIGS["small"]


def _dw_config(precision: str, version: str, shared: bool, with_sigma: bool) -> DwConfig:
    """The widest tile whose moments fit into registers beside the sums."""
    if precision == "highest":
        return DW_CONFIGS["highest"]
    return DW_CONFIGS["wide" if version == "gauss" and shared and not with_sigma else "narrow"]


def _up(n: int, multiple: int) -> int:
    return triton.cdiv(n, multiple) * multiple


# -- launchers ---


def split(
    x_TBC: Tensor, parts: int, affine: tuple[Tensor, Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Parts in bfloat16 of x, or of x + y * scale + shift for an affine (y, scale, shift), as
    (P, T * B, C rounded up to 16), and how many of them are not all zero, (1,), None if P is 1.
    """
    T, B, C = x_TBC.shape
    x_TBC = x_TBC.contiguous()
    if affine is None:
        parts = min(parts, {torch.bfloat16: 1, torch.float16: 2}.get(x_TBC.dtype, 3))
        if x_TBC.dtype == torch.bfloat16 and C % 16 == 0 and x_TBC.data_ptr() % 16 == 0:
            return x_TBC.view(1, T * B, C), None
    block = dict(BR=32, BC=64)
    programs = triton.cdiv(T * B, block["BR"])
    planes = x_TBC.new_empty((parts, T * B, _up(C, 16)), dtype=torch.bfloat16)
    used = x_TBC.new_empty((programs,), dtype=torch.int32)
    delay_split_kernel[(programs,)](
        x_TBC, *(affine or (None,) * 3), planes, used, T * B, C, planes.shape[2],
        P=parts, AFFINE=affine is not None, **block, **ROUNDED,
    )  # fmt: skip
    return planes, used.amax(0, keepdim=True) if parts > 1 else None


class Synapses(NamedTuple):
    """What makes the taps: w, p (E, N, C), sigma () or (E, N, C), float32 and contiguous."""

    w: Tensor
    p: Tensor
    sigma: Tensor
    K: int
    version: str

    @property
    def case(self) -> dict[str, object]:
        return dict(KIND=KINDS[self.version], SHARED=self.shared)

    @property
    def shared(self) -> bool:
        return self.sigma.numel() == 1

    def coefficients(self, sign: int) -> Tensor:
        """(2 or 3, E, pitch_o, pitch_i), outputs first: N x C forward (sign -1), else C x N."""
        E, N, C = self.w.shape
        (O, I), strides = ((N, C), (C, 1)) if sign < 0 else ((C, N), (1, C))
        pitch_o, pitch_i = _up(O, 128), _up(I, 16)
        coef = self.w.new_empty((2 if self.shared else 3, E, pitch_o, pitch_i))
        n = coef[0].numel()
        delay_coef_kernel[(triton.cdiv(n, 256),)](
            self.w, self.p, self.sigma, coef, self.K, O, I, N * C, *strides, pitch_o, pitch_i, n,
            **self.case, BLOCK=256, **ROUNDED,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Output of ``shape`` (steps, B): forward (sign -1) or transposed (+1); its mean and biased
    variance if ``stats``, else two empty tensors.
    """
    (T_out, B), (E, N, C) = shape, synapses.w.shape
    O, rows = N if sign < 0 else C, T_out * B
    coef = synapses.coefficients(sign)
    c = _conv_config(rows, O, precision)
    blocks = triton.cdiv(rows, c.BM)
    y = planes.new_empty((T_out, B, O), dtype=dtype)
    partial = coef.new_empty((blocks, 2, O)) if stats else None
    delay_conv_kernel[(blocks * triton.cdiv(O, c.BO),)](
        planes, used, coef, synapses.sigma, y, partial,
        B, planes.shape[1] // B, T_out, synapses.K, O,
        coef.shape[2], coef.shape[3] // 16, planes.shape[2] // 16, E,
        SIGN=sign, **synapses.case, P=PARTS[precision],
        XP=planes.shape[0], RESTART=precision == "highest", STATS=stats, **c._asdict(), **FUSED,
    )  # fmt: skip
    if stats:
        return y, *_combine(partial, rows, c.BM)
    return y, coef.new_empty(0), coef.new_empty(0)


def _combine(partial_G2N: Tensor, rows: int, block: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance from those of blocks of rows (Chan, Golub and LeVeque 1983)."""
    count_G1 = partial_G2N.new_full((partial_G2N.shape[0], 1), block)
    count_G1[-1] = rows - block * (partial_G2N.shape[0] - 1)
    mean_GN, square_GN = partial_G2N.unbind(1)
    mean_N = (mean_GN * count_G1).sum(0) / rows
    square_N = (square_GN + count_G1 * (mean_GN - mean_N) ** 2).sum(0)
    return mean_N, square_N / rows


def weight_gradient(
    dy_PRN: Tensor, x_TBC: Tensor, synapses: Synapses, precision: str, with_sigma: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of w, p and sigma (the last empty unless ``with_sigma``), each (E, N, C)."""
    (T, B, C), (E, N, _), K = x_TBC.shape, synapses.w.shape, synapses.K
    x_PRC, used = split(x_TBC, 3 if precision == "highest" else 1)
    c = _dw_config(precision, synapses.version, synapses.shared, with_sigma)
    tiles, groups = triton.cdiv(N, c.BN) * triton.cdiv(C, c.BC), triton.cdiv(K, c.TAPS)
    rows = dy_PRN.shape[1]
    chunks = min(triton.cdiv(2 * FILL, tiles * groups), triton.cdiv(rows, 512))
    chunk = _up(triton.cdiv(rows, chunks), c.BM)
    moments = 3 if with_sigma else 2
    part = synapses.w.new_empty((chunks * groups, moments, E, N, C))
    case = dict(**synapses.case, MOMENTS=moments)
    delay_dw_kernel[(tiles, groups, chunks)](
        dy_PRN, x_PRC, used, synapses.p, synapses.sigma, part,
        B, T, rows // B, K, N, C, dy_PRN.shape[2] // 16, x_PRC.shape[2] // 16, E, chunk,
        P=PARTS[precision], XP=x_PRC.shape[0], YP=dy_PRN.shape[0], **case, **c._asdict(), **FUSED,
    )  # fmt: skip
    dw, dp = torch.empty_like(synapses.w), torch.empty_like(synapses.w)
    dsigma = torch.empty_like(synapses.w) if with_sigma else synapses.w.new_empty(0)
    delay_dw_sum_kernel[(triton.cdiv(dw.numel(), 128),)](
        part, *synapses[:3], dw, dp, dsigma, part.shape[0], K, dw.numel(),
        **case, BLOCK=128, **ROUNDED,
    )  # fmt: skip
    return dw, dp, dsigma


# -- what the compile check builds ---


def _conv_variant(
    config: str, precision: str, version: str, shared: bool, sign: int, parts: int, stats: bool
) -> Variant:
    ints = ["B", "T_in", "T_out", "K", "O", "pitch_o", "pitch_i", "pitch"]
    types = dict(x="*bf16", coef="*fp32", sigma="*fp32", y="*fp32") | dict.fromkeys(ints, "i32")
    constexprs = dict(E=1, SIGN=sign, KIND=KINDS[version], SHARED=shared, P=PARTS[precision])
    constexprs |= dict(XP=parts, RESTART=precision == "highest", STATS=stats)
    for name, type_, given in (("used", "*i32", parts > 1), ("stats", "*fp32", stats)):
        (types if given else constexprs)[name] = type_ if given else None
    *tile, warps, stages = CONV_CONFIGS[config]
    constexprs |= dict(zip(("BO", "BI", "BM"), tile, strict=True))
    name = f"delay_conv {config} {precision} {version} sign={sign} parts={parts}"
    name += f" shared={shared} stats={stats}"
    return Variant(name, delay_conv_kernel, types, constexprs, warps, stages, True)


def _dw_variant(precision: str, version: str, shared: bool, parts: int, sigma: bool) -> Variant:
    kind = KINDS[version]
    config = _dw_config(precision, version, shared, sigma)
    ints = ["B", "T", "S", "K", "N", "C", "pitch_n", "pitch_c", "rows"]
    types = dict.fromkeys(("dy", "x"), "*bf16") | dict.fromkeys(("p", "sigma", "part"), "*fp32")
    constexprs = dict(E=1, KIND=kind, SHARED=shared, MOMENTS=3 if sigma else 2)
    constexprs |= dict(P=PARTS[precision], XP=parts, YP=PARTS[precision])
    types |= dict.fromkeys(ints, "i32") | (dict(used="*i32") if parts > 1 else {})
    constexprs |= {} if parts > 1 else dict(used=None)
    *tile, warps, stages = config
    constexprs |= dict(zip(config._fields, tile, strict=False))
    name = f"delay_dw {precision} {version} parts={parts} shared={shared} sigma={sigma}"
    return Variant(name, delay_dw_kernel, types, constexprs, warps, stages, True)


def delay_variants() -> list[Variant]:
    """Every kernel in every launch configuration, in the cases that need the most registers."""
    found = [
        *(_conv_variant(c, c, "gauss", True, -1, 1, True) for c in PARTS),
        *(_conv_variant(c, c, "gauss", False, 1, PARTS[c], False) for c in PARTS),
        *(_conv_variant(c, c, "max", False, -1, 1, True) for c in PARTS),
        _conv_variant("highest", "highest", "gauss", False, -1, 3, True),
        _conv_variant("small", "highest", "gauss", False, -1, 3, True),
        _conv_variant("small", "default", "gauss", True, -1, 1, True),
        *(_dw_variant(c, "gauss", True, 1, True) for c in PARTS),
        *(_dw_variant(c, "gauss", True, 1, False) for c in PARTS),
        *(_dw_variant(c, "max", False, 1, True) for c in PARTS),
        _dw_variant("highest", "gauss", False, 3, True),
        _dw_variant("default", "v0", True, 1, False),
    ]
    for affine in (False, True):
        floats = ("y", "scale", "shift") if affine else ()
        types = dict(x="*fp32", planes="*bf16", used="*i32", R="i32", C="i32", pitch="i32")
        types |= dict.fromkeys(floats, "*fp32")
        constexprs = dict(P=3, AFFINE=affine, BR=32, BC=64)
        constexprs |= {} if affine else dict(y=None, scale=None, shift=None)
        found.append(Variant(f"delay_split {affine=}", delay_split_kernel, types, constexprs))
    for version, shared in (("gauss", True), ("gauss", False), ("max", False), ("v0", True)):
        case = dict(KIND=KINDS[version], SHARED=shared)
        ints = ["K", "O", "I", "stride_e", "stride_o", "stride_i", "pitch_o", "pitch_i", "n"]
        types = dict.fromkeys(("w", "p", "sigma", "coef"), "*fp32") | dict.fromkeys(ints, "i32")
        name = f"delay_coef {version} {shared=}"
        found.append(Variant(name, delay_coef_kernel, types, case | dict(BLOCK=256)))
        floats = ("part", "w", "p", "sigma", "dw", "dp", "dsigma")
        types = dict.fromkeys(floats, "*fp32") | dict.fromkeys(("G", "K", "n"), "i32")
        name = f"delay_dw_sum {version} {shared=}"
        constexprs = case | dict(MOMENTS=3, BLOCK=128)
        found.append(Variant(name, delay_dw_sum_kernel, types, constexprs))
    return found
