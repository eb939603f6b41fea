"""The delay convolution in the frequency domain: a bilinear algorithm with 1.5 products per step
instead of K.

A real DFT of length L >= T + K - 1 turns the convolution into one complex product per frequency,
that is three real ones (Gauss): with X = a + ib and H = c + id, the products ac, bd and (a + b)(c +
d) hold the real and the imaginary part. So ``y = Y ((A x) * (H k))`` with three constant matrices,
and both gradients are transposes of the same products.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K delay taps, M
products (about 1.5 L).
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference

KEEP_BYTES = 2**27  # transforms up to this size wait for the backward pass, larger ones are redone


@lru_cache(maxsize=16)
def transforms(
    T: int, S: int, K: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices (A, H, Y) of shapes (M, T), (M, K), (S, M): ``y = Y @ ((A @ x) * (H @ k))`` is the
    delay convolution.

    Args:
        T, S, K: steps in, steps out (S <= T + K - 1), taps.
        dtype, device: of the matrices; they are computed in float64.

    Source: Gauss's three-product complex multiplication applied to the convolution theorem.
    """
    L = T + K - 1
    f = torch.arange(L // 2 + 1, dtype=torch.float64).unsqueeze(1)

    def waves(steps: Tensor) -> tuple[Tensor, Tensor]:
        angle = 2 * math.pi / L * torch.remainder(f * steps, L)
        return angle.cos(), -angle.sin()

    def products(steps: Tensor) -> Tensor:
        re, im = waves(steps)
        return torch.cat([re, im, re + im])

    re, im = waves(torch.arange(S))
    weight = torch.full_like(
        f, 2 / L
    )  # every frequency but 0 and L/2 stands for itself and its mirror image
    weight[0] = 1 / L
    if L % 2 == 0:
        weight[-1] = 1 / L
    # y = re (P1 - P2) + im (P3 - P1 - P2), P1 = ac, P2 = bd, P3 = (a + b)(c + d)
    back = torch.cat([weight * (re - im), -weight * (re + im), weight * im])
    A, H = products(torch.arange(T)), products(K - 1 - torch.arange(K))  # tap i delays by K-1-i
    # at frequency 0 and L/2 the imaginary parts vanish: P1 alone is the product
    n = f.shape[0]
    real = [0, n - 1] if L % 2 == 0 else [0]
    keep = torch.ones(3 * n, dtype=torch.bool)
    for i in real:
        back[i] = weight[i] * re[i]
        keep[n + i] = keep[2 * n + i] = False
    A, H, Y = A[keep], H[keep], back[keep].T.contiguous()
    return A.to(device, dtype), H.to(device, dtype), Y.to(device, dtype)


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    """The matrix along the first axis."""
    return (matrix @ x.reshape(x.shape[0], -1)).view(matrix.shape[0], *x.shape[1:])


class _SpectralConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_TBC: Tensor, k_KNC: Tensor, S: int) -> Tensor:
        A, H, Y = ctx.matrices = transforms(
            x_TBC.shape[0], S, k_KNC.shape[0], x_TBC.dtype, x_TBC.device
        )
        x_MBC, k_MNC = _apply(A, x_TBC), _apply(H, k_KNC)
        ctx.kept = x_MBC.nbytes + k_MNC.nbytes <= KEEP_BYTES
        ctx.save_for_backward(*((x_MBC, k_MNC) if ctx.kept else (x_TBC, k_KNC)))
        return _apply(Y, x_MBC @ k_MNC.mT)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        A, H, Y = ctx.matrices
        x_MBC, k_MNC = ctx.saved_tensors
        if not ctx.kept:
            x_MBC, k_MNC = _apply(A, x_MBC), _apply(H, k_MNC)
        dy_MBN = _apply(Y.T, grads[0].contiguous())
        dx = dk = None
        if ctx.needs_input_grad[0]:
            dx = _apply(A.T, dy_MBN @ k_MNC)
        if ctx.needs_input_grad[1]:
            dk = _apply(H.T, dy_MBN.mT @ x_MBC)
        return dx, dk, None


def spectral_conv(x_TBC: Tensor, k_KNC: Tensor, extra_steps: int = 0) -> Tensor:
    """Delay convolution, see ``delay.delay_conv``; taps with the tap axis first.

    Args:
        x_TBC: spikes or counts, (T, B, C).
        k_KNC: taps, (K, N, C).
        extra_steps: S - T, >= 0.

    Returns:
        (T + extra_steps, B, N). Cost independent of K but for the transform of the taps.

    Source: convolution theorem; the module's docstring gives the products.
    """
    T, K = x_TBC.shape[0], k_KNC.shape[0]
    silent = max(0, extra_steps - (K - 1))  # steps after the last tap has passed
    y_SBN = _SpectralConv.apply(x_TBC, k_KNC, T + extra_steps - silent)
    return F.pad(y_SBN, (0, 0, 0, 0, 0, silent)) if silent else y_SBN


class _GaussTaps(torch.autograd.Function):
    """Taps with the tap axis first and the closed-form gradient, so that only W, P and SIG are
    kept.
    """

    @staticmethod
    def forward(ctx, w_NC: Tensor, p_NC: Tensor, sigma: Tensor, K: int) -> Tensor:
        ctx.save_for_backward(w_NC, p_NC, sigma)
        ctx.K = K
        return _gauss(p_NC, sigma, K)[0].mul_(w_NC)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        w_NC, p_NC, sigma = ctx.saved_tensors
        width = sigma.abs() + 0.27
        g_KNC, d_KNC = _gauss(p_NC, sigma, ctx.K)
        gk_KNC = g_KNC * grads[0]
        dw = gk_KNC.sum(0)
        mean = torch.mul(g_KNC, d_KNC).sum(0)
        dp = w_NC / width**2 * (torch.mul(gk_KNC, d_KNC).sum(0) - mean * dw)
        dsigma = None
        if ctx.needs_input_grad[2]:
            square = d_KNC.square_()
            dsigma = w_NC / width**3 * ((gk_KNC * square).sum(0) - (g_KNC * square).sum(0) * dw)
            dsigma = (dsigma * sigma.sign()).sum_to_size(sigma.shape)
        return dw, dp, dsigma, None


def _gauss(p_NC: Tensor, sigma: Tensor, K: int) -> tuple[Tensor, Tensor]:
    """Normalised Gaussian taps and their distances to the centre, both (K, N, C)."""
    i_K11 = torch.arange(K, device=p_NC.device, dtype=p_NC.dtype).view(K, 1, 1)
    d_KNC = i_K11 - (p_NC + K // 2)
    g_KNC = (d_KNC / (sigma.abs() + 0.27)).square_().mul_(-0.5).exp_()
    F.threshold_(g_KNC, 1e-30, 0)  # products with the denormal tails would be many times slower
    return g_KNC.div_(g_KNC.sum(0).add_(1e-7)), d_KNC


def gauss_taps(w_ENC: Tensor, p_ENC: Tensor, sigma: Tensor, K: int) -> Tensor:
    """Taps of version ``gauss``, (K, N, C); arguments as ``delay.delay_taps``, gradients by its
    section 1.1 equations.
    """
    sigmas = sigma if sigma.ndim else [sigma] * w_ENC.shape[0]
    return sum(_GaussTaps.apply(w, p, s, K) for w, p, s in zip(w_ENC, p_ENC, sigmas, strict=True))


# -- the backend "cpu" of delay.py ---

DIRECT_TAPS = 7  # up to here K direct products per step beat 1.5 L / T products and the transforms
LONGEST = 4096  # beyond these steps the transforms, O(T^2), and their matrices grow too large


def _direct(x_TBC: Tensor, K: int) -> bool:
    return K <= DIRECT_TAPS or x_TBC.shape[0] + K > LONGEST


def delay_conv(x_TBC: Tensor, k_NCK: Tensor, extra_steps: int = 0) -> Tensor:
    if _direct(x_TBC, k_NCK.shape[2]):
        return reference.delay_conv(x_TBC, k_NCK, extra_steps)
    return spectral_conv(x_TBC, k_NCK.permute(2, 0, 1), extra_steps)


def delay_linear(
    x_TBC: Tensor,
    w_ENC: Tensor,
    p_ENC: Tensor,
    sigma: Tensor,
    K: int,
    version: str,
    extra_steps: int = 0,
) -> Tensor:
    if version != "gauss" or _direct(x_TBC, K):
        k_NCK = reference.delay_taps(w_ENC, p_ENC, sigma, K, version)
        return delay_conv(x_TBC, k_NCK, extra_steps)
    return spectral_conv(x_TBC, gauss_taps(w_ENC, p_ENC, sigma, K), extra_steps)
