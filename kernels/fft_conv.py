"""The delay convolution in the frequency domain: about 1.5 products per step instead of K.

A real DFT of length L turns the convolution of one tile of the signal into one complex product per
frequency, that is three real ones (Gauss): with X = a + ib and H = c + id, the products ac, bd and
(a + b)(c + d) hold the real and the imaginary part. So ``y = merge(split(x) * split(k))`` with two
linear maps, and the gradients are transposes of the same three steps. The maps are matrix products
where few rows are transformed, and compiled fast transforms (cpu/fft.py) where many are.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K delay taps, L
transform length, M = 1.5 L - 1 products, I tiles. Tile i answers for the output steps i * hop ...
i * hop + hop - 1 and reads the K - 1 steps before them too; L >= hop + K - 1.
"""

import math
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BackendError
from . import reference
from .costs import MATMUL_ROWS, Tiling, tiling
from .precision import exact
from .registered import register, register_differentiable
from .synapses import Synapses

MATMUL_TAPS = 64  # as MATMUL_ROWS, for taps, which the compiled transform builds on the way


# -- split and merge as matrices ---


@cache  # a CUDA graph reads these tensors for as long as it lives
def matrices(
    L: int, first: int, last: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Split (M, rows) of the steps first ... last - 1 (mod L) and merge (rows, M) back to them.

    ``merge @ ((split @ x) * (split @ k))`` is the circular convolution. Both in ``dtype`` on
    ``device``; computed in float64.

    Source: Gauss's three-product complex multiplication applied to the convolution theorem.
    """
    H = L // 2
    # in float64 and mod L: an angle of many turns has lost its fraction in float32
    f = torch.arange(H + 1, dtype=torch.float64, device=device)[:, None]
    angle = 2 * math.pi / L * torch.remainder(f * torch.arange(first, last, device=device), L)
    re, im = angle.cos(), -angle.sin()
    split = torch.cat([re, im[1:H], (re + im)[1:H]])
    # y = sum_f weight (re (P1 - P2) + im (P3 - P1 - P2)); every frequency but 0 and H stands for
    # itself and its mirror image, and at 0 and H the imaginary parts vanish
    re, im = 2 / L * re, 2 / L * im
    ends = 0.5 * re[::H]
    merge = torch.cat([(re - im), -(re + im)[1:H], im[1:H]])
    merge[0], merge[H] = ends[0], ends[1]
    return split.to(dtype), merge.T.contiguous().to(dtype)


@cache
def _kept(
    L: int, first: int, last: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    # a recording would leave them unwritten, in memory of its graph
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise BackendError(
            "the frequency domain makes its matrices at the first call of a shape: run the shape"
            " once before you record it into a CUDA graph"
        )
    return matrices.__wrapped__(L, first, last, dtype, device)


def _maps(
    L: int, first: int, last: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """``matrices``; on a GPU one pair for every number of steps, which is never dropped: a recorded
    graph may read it.
    """
    if device.type != "cuda":
        return matrices(L, first, last, dtype, device)
    split, merge = _kept(L, first, max(last, first + L), dtype, device)
    return split[:, : last - first], merge[: last - first]


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """The matrix along the first axis. No view of the product: the output of an op must not be one,
    or autograd forbids to write into it.
    """
    y = x.new_empty(matrix.shape[0], *x.shape[1:])
    torch.mm(matrix, x.reshape(x.shape[0], -1), out=y.view(matrix.shape[0], -1))
    return y


def _tiles(x_TBC: Tensor, t: Tiling, before: int) -> Tensor:
    """(rows, I B, C): every tile's steps and the ``before`` steps ahead of it."""
    if t.tiles == 1:
        return x_TBC
    T, B, C = x_TBC.shape
    padded = F.pad(x_TBC, (0, 0, 0, 0, before, t.tiles * t.hop - T))[: before + t.tiles * t.hop]
    return padded.unfold(0, before + t.hop, t.hop).permute(3, 0, 1, 2).reshape(-1, t.tiles * B, C)


def _untile(rows: Tensor, t: Tiling, before: int, T: int) -> Tensor:
    """Transpose of ``_tiles``: where tiles overlap, they add up."""
    if t.tiles == 1:
        return rows
    rows = rows.view(rows.shape[0], t.tiles, -1, rows.shape[2])
    out = rows.new_zeros(T, *rows.shape[2:])
    for i in range(t.tiles):
        start = i * t.hop - before
        first, last = max(start, 0), min(start + before + t.hop, T)
        if first < last:
            out[first:last] += rows[first - start : last - start, i]
    return out


# -- the two maps and their transposes, by matrices or compiled ---


def _range(t: Tiling, before: int, T: int) -> tuple[int, int]:
    return (0, T) if t.tiles == 1 else (-before, t.hop)


def _compiled(compiled: bool, t: Tiling, before: int, T: int) -> bool:
    first, last = _range(t, before, T)
    return compiled and last - first > MATMUL_ROWS


def _forward(x: Tensor, t: Tiling, before: int, adjoint: bool, compiled: bool) -> Tensor:
    """Products (M, I B, C) of the signal x (T, B, C): split, or with ``adjoint`` merge's
    transpose.
    """
    if not _compiled(compiled, t, before, x.shape[0]):
        split, merge = _maps(t.L, *_range(t, before, x.shape[0]), x.dtype, x.device)
        return _times(merge.T if adjoint else split, _tiles(x, t, before))
    from .cpu import fft_launch  # imports numba

    return fft_launch.forward(x, *t, before, adjoint)


def _inverse(p: Tensor, t: Tiling, before: int, T: int, adjoint: bool, compiled: bool) -> Tensor:
    """The signal (T, B, C) of the products p (M, I B, C): merge, or with ``adjoint`` split's
    transpose.
    """
    if not _compiled(compiled, t, before, T):
        split, merge = _maps(t.L, *_range(t, before, T), p.dtype, p.device)
        return _untile(_times(split.T if adjoint else merge, p), t, before, T)
    from .cpu import fft_launch  # imports numba

    return fft_launch.inverse(p, T, *t, before, adjoint)


class Given(NamedTuple):
    """Taps (K, N, C) in order of their delay."""

    k_KNC: Tensor
    compiled: bool

    @property
    def size(self) -> tuple[int, int, int]:
        """K, N, C."""
        K, N, C = self.k_KNC.shape
        return K, N, C

    def forward(self, L: int) -> Tensor:
        """Products (M, N, C)."""
        K = self.size[0]
        return _forward(self.k_KNC, Tiling(L, K, 1), 0, False, self.compiled)

    def gradient(self, products_MNC: Tensor, L: int) -> list[Tensor]:
        """dk (K, N, C) from the products' gradient."""
        K = self.size[0]
        return [_inverse(products_MNC, Tiling(L, K, 1), 0, K, True, self.compiled)]


class Gauss(NamedTuple):
    """Taps of version ``gauss``, built on the way into the transform; W, P and SIG are float32,
    contiguous and (E, N, C) each.
    """

    synapses: Synapses

    @property
    def size(self) -> tuple[int, int, int]:
        """K, N, C."""
        _, N, C = self.synapses.weight.shape
        return self.synapses.K, N, C

    def forward(self, L: int) -> Tensor:
        """Products (M, N, C)."""
        from .cpu import fft_launch

        if self.synapses.K > MATMUL_TAPS:
            return fft_launch.gauss_forward(self.synapses, L)
        return Given(fft_launch.gauss_taps(self.synapses), False).forward(L)

    def gradient(self, products_MNC: Tensor, L: int) -> list[Tensor]:
        """dw, dp, dsigma (E, N, C) from the products' gradient."""
        from .cpu import fft_launch

        if self.synapses.K > MATMUL_TAPS:
            return fft_launch.gauss_inverse(products_MNC, self.synapses, L)
        (dk,) = Given(products_MNC.new_empty(self.size), False).gradient(products_MNC, L)
        return fft_launch.gauss_taps_grad(dk, self.synapses)


def _convolve(x: Tensor, taps: Given | Gauss, S: int, compiled: bool) -> Tensor:
    T, B, C = x.shape
    K, N, _ = taps.size
    t = tiling(T, S, K, B, C, N, x.is_cuda)
    # one matrix product per row of products: all that is left of the convolution
    x_MBC = _forward(x.contiguous(), t, K - 1, False, compiled)
    return _inverse(x_MBC @ taps.forward(t.L).mT, t, 0, S, False, compiled)


def _gradients(
    dy: Tensor, x: Tensor, taps: Given | Gauss, compiled: bool, need_x: bool, need_taps: bool
) -> list[Tensor]:
    """[dx, *taps' gradients]; what is not needed is empty. Transforms are made anew, not kept:
    theirs is the larger part of what a step would hold.
    """
    T, B, C = x.shape
    K, N, _ = taps.size
    t = tiling(T, dy.shape[0], K, B, C, N, x.is_cuda)
    # merge's transpose turns dy into the gradient of the products, which both gradients need
    dy_MBN = _forward(dy.contiguous(), t, 0, True, compiled)
    dx, dtaps = x.new_empty(0), []
    if need_x:
        dx = _inverse(dy_MBN @ taps.forward(t.L), t, K - 1, T, True, compiled)
    if need_taps:
        x_MBC = _forward(x.contiguous(), t, K - 1, False, compiled)
        dtaps = taps.gradient(dy_MBN.mT @ x_MBC, t.L)
    return [dx, *dtaps]


# -- registered ops and their autograd ---


def _run(x, k, S, compiled):
    with exact(x):
        return _convolve(x, Given(k.contiguous(), compiled), S, compiled)


def _run_grad(dy, x, k, compiled, need_x, need_k):
    with exact(x):
        grads = _gradients(dy, x, Given(k.contiguous(), compiled), compiled, need_x, need_k)
        return grads if need_k else [*grads, x.new_empty(0)]


def _run_gauss(x, w, p, sigma, K, S):
    taps = Gauss(Synapses(w.contiguous(), p.contiguous(), sigma.contiguous(), K))
    with exact(x):
        return _convolve(x, taps, S, True)


def _run_gauss_grad(dy, x, w, p, sigma, K, need_x, need_taps):
    taps = Gauss(Synapses(w.contiguous(), p.contiguous(), sigma.contiguous(), K))
    with exact(x):
        grads = _gradients(dy, x, taps, True, need_x, need_taps)
        return grads if need_taps else [*grads, *(x.new_empty(0) for _ in range(3))]


def _fake_y(x, w, S):
    return x.new_empty(S, x.shape[1], w.shape[1])


def _fake_grads(inputs: list[Tensor], needed: list[bool]) -> list[Tensor]:
    return [
        torch.empty_like(a) if need else a.new_empty(0)
        for a, need in zip(inputs, needed, strict=True)
    ]


_conv_grad = register(
    "fft_conv_grad(Tensor dy, Tensor x, Tensor k, bool compiled, bool need_x, bool need_k) "
    "-> Tensor[]",
    _run_grad,
    lambda dy, x, k, compiled, need_x, need_k: _fake_grads([x, k], [need_x, need_k]),
)
_gauss_conv_grad = register(
    "gauss_conv_grad(Tensor dy, Tensor x, Tensor w, Tensor p, Tensor sigma, int K, bool need_x, "
    "bool need_taps) -> Tensor[]",
    _run_gauss_grad,
    lambda dy, x, w, p, sigma, K, need_x, need_taps: _fake_grads(
        [x, w, p, sigma], [need_x] + [need_taps] * 3
    ),
)


def _save(ctx, arguments, y):
    x, k, _, ctx.compiled = arguments
    ctx.save_for_backward(x, k)


def _backward(ctx, dy):
    need_x, need_k, _ = ctx.needs_input_grad
    dx, dk = _conv_grad(dy, *ctx.saved_tensors, ctx.compiled, need_x, need_k)
    return dx if need_x else None, dk if need_k else None


def _save_gauss(ctx, arguments, y):
    *tensors, ctx.K, _ = arguments
    ctx.save_for_backward(*tensors)


def _backward_gauss(ctx, dy):
    needs = ctx.needs_input_grad[:4]
    grads = _gauss_conv_grad(dy, *ctx.saved_tensors, ctx.K, needs[0], any(needs[1:]))
    return [g if need else None for g, need in zip(grads, needs, strict=True)]


_conv = register_differentiable(
    "fft_conv(Tensor x, Tensor k, int S, bool compiled) -> Tensor",
    _run,
    lambda x, k, S, compiled: _fake_y(x, k, S),
    tensors=lambda x, k, S, compiled: (x, k),
    save=_save,
    gradients=_backward,
)
_gauss_conv = register_differentiable(
    "gauss_conv(Tensor x, Tensor w, Tensor p, Tensor sigma, int K, int S) -> Tensor",
    _run_gauss,
    lambda x, w, p, sigma, K, S: _fake_y(x, w, S),
    tensors=lambda x, w, p, sigma, K, S: (x, w, p, sigma),
    save=_save_gauss,
    gradients=_backward_gauss,
)


# -- the backends "fft" and "cpu" of delay.py ---


def _audible(T: int, K: int, extra_steps: int) -> tuple[int, int]:
    """Output steps that a tap reaches, and the silent ones after them."""
    silent = max(0, extra_steps - (K - 1))
    return T + extra_steps - silent, silent


def _after(y: Tensor, silent: int) -> Tensor:
    return F.pad(y, (0, 0, 0, 0, 0, silent)) if silent else y


def delay_conv(
    x_TBC: Tensor, k_NCK: Tensor, extra_steps: int = 0, compiled: bool = False
) -> Tensor:
    S, silent = _audible(x_TBC.shape[0], k_NCK.shape[2], extra_steps)
    # float32 at least: the sums of a transform cancel, which half precision does not survive
    wide = torch.promote_types(x_TBC.dtype, torch.float32)
    k_KNC = k_NCK.flip(2).permute(2, 0, 1).to(wide)
    return _after(_conv(x_TBC.to(wide), k_KNC, S, compiled), silent).to(x_TBC.dtype)


compiled_delay_conv = partial(delay_conv, compiled=True)


def delay_linear(x_TBC: Tensor, synapses: Synapses, extra_steps: int = 0) -> Tensor:
    return delay_conv(x_TBC, reference.delay_taps(synapses), extra_steps)


def delay_integer(
    x_TBC: Tensor, w_ENC: Tensor, delay_ENC: Tensor, K: int, extra_steps: int = 0
) -> Tensor:
    """``reference.delay_integer`` by one-hot taps."""
    S, silent = _audible(x_TBC.shape[0], K, extra_steps)
    wide = torch.promote_types(x_TBC.dtype, torch.float32)
    place_K11 = torch.arange(K, device=x_TBC.device)[:, None, None]
    k_KNC = w_ENC.new_zeros((), dtype=wide)
    for w_NC, delay_NC in zip(w_ENC.to(wide), delay_ENC, strict=True):  # no atomics
        k_KNC = k_KNC + torch.where(delay_NC == place_K11, w_NC, 0)
    return _after(_conv(x_TBC.to(wide), k_KNC, S, False), silent).to(x_TBC.dtype)


def compiled_delay_linear(x_TBC: Tensor, synapses: Synapses, extra_steps: int = 0) -> Tensor:
    w_ENC, p_ENC, sigma, K, version = synapses
    if version != "gauss":  # compiled taps exist for the version that is trained
        return compiled_delay_conv(x_TBC, reference.delay_taps(synapses), extra_steps)
    S, silent = _audible(x_TBC.shape[0], K, extra_steps)
    sigma_ENC = sigma.float().expand_as(w_ENC)
    y = _gauss_conv(x_TBC.float(), w_ENC.float(), p_ENC.float(), sigma_ENC, K, S)
    return _after(y, silent).to(x_TBC.dtype)
