"""Mean and variance of a batch on the CPU, for the normalisation before a neuron.

Legend: T time steps, B batch, N neurons, R = T B rows.
"""

from typing import Any

import torch
from torch import Tensor

from .scan import as_float32, as_stored, conversions, new_float32, new_stored, run_tiles
from .specialise import specialise

ROWS = 64  # summed in float32; their sums in float64

# -- kernels: `specialise` puts functions in the place of these names ---

read: Any = None  # from and to the type of y and z
write: Any = None


def moments(y, parts, size, first, last):
    """Sums over blocks of ROWS rows of y - y[0] and of its square; y (R, N), parts (R / ROWS, 2,
    N).
    """
    R, N = y.shape
    for i in range(first * size, min(last * size, len(parts))):
        parts[i] = 0
        a, b, origin = parts[i, 0], parts[i, 1], y[0]
        for r in range(i * ROWS, min(i * ROWS + ROWS, R)):
            y_r = y[r]
            for n in range(N):
                d = read(y_r[n]) - read(origin[n])
                a[n] += d
                b[n] += d * d


def affine(y, z, p, size, first, last):
    """z = p[0] y + p[1]; y, z (R, N), p (2, N); ``size`` counts blocks of ROWS rows."""
    R, N = y.shape
    a, b = p[0], p[1]
    for r in range(first * size * ROWS, min(last * size * ROWS, R)):
        y_r, z_r = y[r], z[r]
        for n in range(N):
            z_r[n] = write(a[n] * read(y_r[n]) + b[n])


# -- launchers ---


def statistics(y_TBN: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over steps and samples, (N,) float32."""
    T, B, N = y_TBN.shape
    parts = new_float32(-(-T * B // ROWS), 2, N)
    kernel = specialise(moments, (), **conversions(y_TBN))
    run_tiles(kernel, ROWS * N, len(parts), 8, as_stored(y_TBN, T * B, N), parts.numpy())
    first, second = parts.double().sum(0) / (T * B)
    return (y_TBN[0, 0] + first).float(), (second - first.square()).clamp_min(0).float()


def statistics_bwd(dmean_N: Tensor, dvar_N: Tensor, y_TBN: Tensor, mean_N: Tensor) -> Tensor:
    """Gradient of y."""
    T, B, N = y_TBN.shape
    slope_N = 2 / (T * B) * dvar_N
    p, dy = torch.stack([slope_N, dmean_N / (T * B) - slope_N * mean_N]), new_stored(y_TBN)
    rows = [as_stored(a, T * B, N) for a in (y_TBN, dy)]
    run_tiles(
        specialise(affine, (), **conversions(y_TBN)),
        ROWS * N,
        -(-T * B // ROWS),
        8,
        *rows,
        as_float32(p, 2, N),
    )
    return dy.to(y_TBN.dtype)
