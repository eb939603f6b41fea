"""Surrogate derivatives of the spike: the Heaviside step forward, a smooth bump backward.

Legend: u = h - v_threshold, alpha = the sharpness. One entry of SURROGATES per shape. The primitive
is the smooth step whose derivative the surrogate is; it replaces the Heaviside step where a
gradient is to be checked by finite differences. The slope is the derivative once more, in the one
source for Triton and numba (portable.py); tests hold it to the derivative.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

tl: Any = None  # each compiler puts its own in the place of this name, see portable.py

SLAYER_SCALE = 0.4  # c of Baronig et al. 2024 (arXiv 2408.07517)


@dataclass(frozen=True)
class Surrogate:
    """One shape: ``derivative(u, alpha)``, its ``primitive(u, alpha)``, the usual ``alpha``, and
    ``slope(u, alpha)``, the derivative for compiled kernels; without it the shape runs on the
    reference only.
    """

    derivative: Callable[[Tensor, float], Tensor]
    primitive: Callable[[Tensor, float], Tensor]
    alpha: float
    slope: Callable | None = None


def _atan(u: Tensor, alpha: float) -> Tensor:
    return (alpha / 2) / (1 + (math.pi / 2 * alpha * u) ** 2)


def _atan_primitive(u: Tensor, alpha: float) -> Tensor:
    return torch.atan(math.pi / 2 * alpha * u) / math.pi + 0.5


# The slopes are the derivatives in the words that both compilers know; tests hold them together.


def _atan_slope(u, alpha):
    z = 1.5707963267948966 * alpha * u
    return 0.5 * alpha / (1.0 + z * z)


def _sigmoid(u: Tensor, alpha: float) -> Tensor:
    s = torch.sigmoid(alpha * u)
    return alpha * s * (1 - s)


def _sigmoid_primitive(u: Tensor, alpha: float) -> Tensor:
    return torch.sigmoid(alpha * u)


def _sigmoid_slope(u, alpha):
    e = tl.exp(-alpha * tl.abs(u))  # at most 1: no overflow
    return alpha * e / ((1.0 + e) * (1.0 + e))


def _triangle(u: Tensor, alpha: float) -> Tensor:
    return torch.relu(alpha - u.abs()) / alpha**2


def _triangle_primitive(u: Tensor, alpha: float) -> Tensor:
    z = (u / alpha).clamp(-1, 1)
    return 0.5 + z - 0.5 * z * z.abs()


def _triangle_slope(u, alpha):
    return tl.maximum(alpha - tl.abs(u), 0.0) / (alpha * alpha)


def _piecewise_quadratic(u: Tensor, alpha: float) -> Tensor:
    return torch.relu(alpha - alpha**2 * u.abs())


def _piecewise_quadratic_primitive(u: Tensor, alpha: float) -> Tensor:
    return _triangle_primitive(u, 1 / alpha)


def _piecewise_quadratic_slope(u, alpha):
    return tl.maximum(alpha - alpha * alpha * tl.abs(u), 0.0)


def _slayer(u: Tensor, alpha: float) -> Tensor:
    return SLAYER_SCALE * alpha / 2 * torch.exp(-alpha * u.abs())


def _slayer_primitive(u: Tensor, alpha: float) -> Tensor:
    return SLAYER_SCALE * (0.5 + 0.5 * u.sign() * (1 - torch.exp(-alpha * u.abs())))


def _slayer_slope(u, alpha):
    return 0.2 * alpha * tl.exp(-alpha * tl.abs(u))  # 0.2 = SLAYER_SCALE / 2


def _fast_sigmoid(u: Tensor, alpha: float) -> Tensor:
    return 1 / (1 + alpha * u.abs()) ** 2


def _fast_sigmoid_primitive(u: Tensor, alpha: float) -> Tensor:
    return 0.5 + u / (1 + alpha * u.abs())


def _fast_sigmoid_slope(u, alpha):
    z = 1.0 + alpha * tl.abs(u)
    return 1.0 / (z * z)


def _rectangle(u: Tensor, alpha: float) -> Tensor:
    return (u.abs() < alpha / 2).to(u.dtype) / alpha


def _rectangle_primitive(u: Tensor, alpha: float) -> Tensor:
    return (u / alpha + 0.5).clamp(0, 1)


def _rectangle_slope(u, alpha):
    return tl.where(tl.abs(u) < 0.5 * alpha, 1.0, 0.0) / alpha


def _erf(u: Tensor, alpha: float) -> Tensor:
    return alpha / math.sqrt(math.pi) * torch.exp(-((alpha * u) ** 2))


def _erf_primitive(u: Tensor, alpha: float) -> Tensor:
    return 0.5 + 0.5 * torch.erf(alpha * u)


def _erf_slope(u, alpha):
    z = alpha * u
    return 0.5641895835477563 * alpha * tl.exp(-z * z)  # 1 / sqrt(pi)


def _straight_through(u: Tensor, alpha: float) -> Tensor:
    return torch.ones_like(u)


def _straight_through_primitive(u: Tensor, alpha: float) -> Tensor:
    return u + 0.5


def _straight_through_slope(u, alpha):
    return 1.0


SURROGATES = {
    "atan": Surrogate(_atan, _atan_primitive, 5.0, _atan_slope),
    "sigmoid": Surrogate(_sigmoid, _sigmoid_primitive, 4.0, _sigmoid_slope),
    # alpha = half width (gamma)
    "triangle": Surrogate(_triangle, _triangle_primitive, 1.0, _triangle_slope),
    "piecewise_quadratic": Surrogate(
        _piecewise_quadratic, _piecewise_quadratic_primitive, 2.0, _piecewise_quadratic_slope
    ),
    "slayer": Surrogate(_slayer, _slayer_primitive, 5.0, _slayer_slope),
    "fast_sigmoid": Surrogate(_fast_sigmoid, _fast_sigmoid_primitive, 25.0, _fast_sigmoid_slope),
    # alpha = whole width
    "rectangle": Surrogate(_rectangle, _rectangle_primitive, 1.0, _rectangle_slope),
    "erf": Surrogate(_erf, _erf_primitive, 2.0, _erf_slope),
    # alpha has no effect
    "straight_through": Surrogate(
        _straight_through, _straight_through_primitive, 1.0, _straight_through_slope
    ),
}


class _Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u: Tensor, derivative: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(u)
        ctx.derivative = derivative
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        (u,) = ctx.saved_tensors  # the bump is computed again: cheaper than keeping it
        return grads[0] * ctx.derivative(u), None


def spike(
    u: Tensor,
    surrogate: str | Callable[[Tensor], Tensor],
    alpha: float = 1.0,
    smooth: bool = False,
) -> Tensor:
    """Fires where ``u >= 0``; the gradient is the surrogate's derivative at ``u``.

    Args:
        u: potential minus threshold, any shape, floating.
        surrogate: a key of ``SURROGATES``, or one's own function of ``u``, the derivative.
        alpha: sharpness of a surrogate that is named, dimensionless.
        smooth: returns the primitive instead of the step, for finite differences.

    Returns:
        0 or 1 in the dtype and shape of ``u`` (with ``smooth`` a value in between).

    Source: Neftci et al. 2019, arXiv 1901.09948; the shapes as in Hammouamri et al. 2024 (arXiv
    2306.17670, ATan), Meng et al. 2023 (arXiv 2302.14311, triangle), Baronig et al. 2024 (arXiv
    2408.07517, SLAYER), Zenke and Ganguli 2018 (arXiv 1705.11146, fast sigmoid), Wu et al. 2018
    (arXiv 1706.02609, rectangle and erf), Bengio et al. 2013 (arXiv 1308.3432, straight through).
    """
    if not isinstance(surrogate, str):
        return _Heaviside.apply(u, surrogate)
    shape = SURROGATES[surrogate]
    if smooth:
        return shape.primitive(u, alpha)
    return _Heaviside.apply(u, lambda u: shape.derivative(u, alpha))
