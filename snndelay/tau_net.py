"""How long the activity of neurons remembers itself within their network.

Legend: T time steps, B sequences, N neurons, L lags, G time constants that are tried.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

TAUS = np.geomspace(0.1, 100, 140)  # steps; neighbours differ by 5 %


@torch.no_grad()
def effective_timescales(
    net: Any, x_TBC: Tensor, max_lag: int = 30, burn_in: int = 100
) -> np.ndarray:
    """Time constant tau_net with which the autocorrelation of each neuron's activity decays while
    the network runs on random input.

    Args:
        net: with ``activity(x) -> (..., [r_TBN, ...])``; the first layer is looked at.
        x_TBC: the input, random bits of each step say, (T, B, C), on the network's device.
        max_lag: the decay is fitted up to this lag, in steps.
        burn_in: first steps that are left out.

    Returns:
        Steps, float64 (N,), see ``decay_times``; NaN for a neuron whose activity never changes.

    Raises:
        ValueError: fewer than four lags, or no more steps than burn-in and lags.

    Source: Khajehabdollahi et al. 2024 (arXiv 2309.12927), section 2.3.
    """
    if max_lag < 4 or len(x_TBC) <= burn_in + max_lag:
        raise ValueError(
            f"{len(x_TBC)} steps are too few for {burn_in} steps of burn-in and {max_lag} lags, "
            "of which at least 4 are needed"
        )
    r_TBN = net.activity(x_TBC)[1][0][burn_in:]
    return decay_times(autocorrelation(r_TBN, max_lag))


def autocorrelation(r_TBN: Tensor, max_lag: int) -> np.ndarray:
    """Autocorrelation of each neuron's activity at lags 0 to max_lag, the mean over sequences, each
    around its own mean over time: float64 (L, N), 1 at lag 0; NaN where nothing changes."""
    size_N = r_TBN.double().square().mean((0, 1)).cpu().numpy()
    r_TBN = r_TBN.double() - r_TBN.double().mean(0)
    T = len(r_TBN)
    lags = [(r_TBN[: T - lag] * r_TBN[lag:]).mean((0, 1)) for lag in range(max_lag + 1)]
    c_LN = torch.stack(lags).cpu().numpy()
    constant_N = c_LN[0] <= 1e-12 * size_N  # but for rounding
    return c_LN / np.where(constant_N, np.nan, c_LN[0])


def decay_times(c_LN: np.ndarray) -> np.ndarray:
    """Time constant of each column's decay over lags 0 to L - 1, in steps, float64 (N,).

    Fits a exp(-k/tau), and a (w exp(-k/tau_1) + (1 - w) exp(-k/tau_2)) with a and w in [0, 1], by
    least squares over all pairs of ``TAUS``, and keeps the fit with the lower Akaike criterion; of
    two exponentials the slower one is the result. NaN where the column has one.

    Source: the code of Khajehabdollahi et al. 2024 (arXiv 2309.12927), which fits by descent.
    """
    e_LG = np.exp(-np.arange(len(c_LN))[:, None] / TAUS)
    return np.array([_decay_time(c_L, e_LG, e_LG.T @ e_LG) for c_L in c_LN.T])


def _decay_time(c_L: np.ndarray, e_LG: np.ndarray, g_GG: np.ndarray) -> float:
    """One column of ``decay_times``; e_LG: the decays that are tried, g_GG: their products."""
    if not np.isfinite(c_L).all():
        return np.nan
    n, d_G, s_G = len(c_L), c_L @ e_LG, np.diag(g_GG)
    a_G = np.clip(d_G / s_G, 0, 1)
    one_G = c_L @ c_L - 2 * a_G * d_G + a_G**2 * s_G
    two_GG = _two(c_L @ c_L, d_G, s_G, g_GG)
    i, j = np.unravel_index(two_GG.argmin(), two_GG.shape)
    if _akaike(two_GG[i, j], n, 4) < _akaike(one_G.min(), n, 2):
        return max(TAUS[i], TAUS[j])
    return TAUS[one_G.argmin()]


def _two(cc: float, d_G: np.ndarray, s_G: np.ndarray, g_GG: np.ndarray) -> np.ndarray:
    """Least squared error of p e_i + q e_j with p, q >= 0 and p + q <= 1 for all pairs: inside this
    triangle, or on its side p + q = 1; on the others one exponential is as good."""
    d_i, d_j, s_i, s_j = d_G[:, None], d_G, s_G[:, None], s_G
    with np.errstate(divide="ignore", invalid="ignore"):  # a pair of equals
        det_GG = s_i * s_j - g_GG**2
        p_GG, q_GG = (s_j * d_i - g_GG * d_j) / det_GG, (s_i * d_j - g_GG * d_i) / det_GG
        w_GG = (d_i - d_j - g_GG + s_j) / (s_i + s_j - 2 * g_GG)
    inside_GG = (p_GG > 0) & (q_GG > 0) & (p_GG + q_GG <= 1)
    side_GG = (w_GG > 0) & (w_GG < 1) & ~inside_GG
    p_GG = np.where(inside_GG, p_GG, np.where(side_GG, w_GG, 0))
    q_GG = np.where(inside_GG, q_GG, np.where(side_GG, 1 - w_GG, 0))
    error_GG = cc - 2 * (p_GG * d_i + q_GG * d_j)
    return error_GG + p_GG**2 * s_i + q_GG**2 * s_j + 2 * p_GG * q_GG * g_GG


def _akaike(squared_error: float, n: int, parameters: int) -> float:
    # an exact fit would have -inf, and the number of parameters could not decide
    return n * np.log(max(squared_error, 1e-10)) + 2 * parameters
