"""Compiled real Fourier transforms along the first axis, as the frequency-domain delay convolution
needs them (numba).

A block of 2 W columns is one complex transform of W lanes: the first W columns are its real part,
the next W its imaginary part, and both spectra come apart by symmetry. All of a block's work stays
in the first-level cache, every inner loop runs over contiguous lanes, and what is done before or
after a transform (the taps of a synapse, the sums of Gauss's products, the gradient of W, P and
SIG) happens there too, so it costs no pass over memory.

Legend: L transform length (even, 2^a 3^b), H = L/2, M = 3 H - 1 rows of products: H + 1 real parts,
H - 1 imaginary parts (they vanish at frequency 0 and H), H - 1 sums of both. R columns, T steps.
Tile i holds the steps i * hop - before ... i * hop + hop - 1; step i * hop + u stands at row u mod
L of the transform.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from .compiled import compiled

W = 32  # lanes: two of AVX-512's registers; four work rows of L = 128 fit the first-level cache
HALF, ONE = np.float32(0.5), np.float32(1)
SIN60 = np.float32(math.sin(math.pi / 3))
TINY_LOG = np.float32(-69)  # exp of it is 1e-30; the products of denormal taps would crawl
LOG2E, LN2 = np.float32(math.log2(math.e)), np.float32(math.log(2))
C3, C4, C5, C6 = (np.float32(1 / math.factorial(n)) for n in (3, 4, 5, 6))
ROUND = np.float32(1.5 * 2**23)
ROUND_BITS = ROUND.view(np.int32)
SPLIT, SPLIT_ADJOINT = 0, 1  # what is written of a spectrum: (re, im, re + im), or merge's adjoint
MERGE, MERGE_ADJOINT = 0, 1  # the spectrum from the products, or split's adjoint


class Plan(NamedTuple):
    """A transform of length ``L``: radices of its passes and their twiddle factors."""

    L: int
    radices: np.ndarray
    cos: np.ndarray
    sin: np.ndarray


@lru_cache(maxsize=32)
def plan(L: int) -> Plan:
    """The passes of a transform of even length ``L`` = 2^a 3^b."""
    radices, n = [], L
    for radix in (2, 3):
        while n % radix == 0:
            radices.append(radix)
            n //= radix
    if n != 1 or L % 2:
        raise ValueError(f"a transform's length must be even and 2^a 3^b, not {L}")
    turns, n = [], L
    for radix in radices:
        n //= radix
        turns += [p * k / (n * radix) for p in range(n) for k in range(1, radix)]
    angle = -2 * np.pi * np.array(turns)
    return Plan(L, np.array(radices), np.cos(angle).astype("f4"), np.sin(angle).astype("f4"))


# -- one complex transform of W lanes ---
# LLVM vectorises a loop only if few of its arrays might overlap: hence radix 2 (not 4), one
# contiguous stretch of all lanes per twiddle factor, and sums of two rows at a time.


@njit(inline="always")
def _pass2(ar, ai, br, bi, m, n, cos, sin, sign):
    for p in range(m):
        wr, wi, i, j, o = cos[p], sign * sin[p], n * p, n * (p + m), 2 * n * p
        a, b, e, f = ar[i : i + n], ar[j : j + n], ai[i : i + n], ai[j : j + n]
        y0, v0 = br[o : o + n], bi[o : o + n]
        y1, v1 = br[o + n : o + 2 * n], bi[o + n : o + 2 * n]
        for q in range(n):
            zr, zi = a[q] - b[q], e[q] - f[q]
            y0[q] = a[q] + b[q]
            v0[q] = e[q] + f[q]
            y1[q] = zr * wr - zi * wi
            v1[q] = zr * wi + zi * wr


@njit(inline="always")
def _pass3(ar, ai, br, bi, m, n, cos, sin, sign):
    turn = sign * SIN60
    for p in range(m):
        w1r, w1i, w2r, w2i = cos[2 * p], sign * sin[2 * p], cos[2 * p + 1], sign * sin[2 * p + 1]
        i, j, k, o = n * p, n * (p + m), n * (p + 2 * m), 3 * n * p
        a, b, c = ar[i : i + n], ar[j : j + n], ar[k : k + n]
        e, f, g = ai[i : i + n], ai[j : j + n], ai[k : k + n]
        y0, y1, y2 = br[o : o + n], br[o + n : o + 2 * n], br[o + 2 * n : o + 3 * n]
        v0, v1, v2 = bi[o : o + n], bi[o + n : o + 2 * n], bi[o + 2 * n : o + 3 * n]
        for q in range(n):
            y0[q] = a[q] + b[q] + c[q]
            v0[q] = e[q] + f[q] + g[q]
        for q in range(n):
            zr = a[q] - HALF * (b[q] + c[q]) + turn * (f[q] - g[q])
            zi = e[q] - HALF * (f[q] + g[q]) - turn * (b[q] - c[q])
            y1[q] = zr * w1r - zi * w1i
            v1[q] = zr * w1i + zi * w1r
        for q in range(n):
            zr = a[q] - HALF * (b[q] + c[q]) - turn * (f[q] - g[q])
            zi = e[q] - HALF * (f[q] + g[q]) + turn * (b[q] - c[q])
            y2[q] = zr * w2r - zi * w2i
            v2[q] = zr * w2i + zi * w2r


@njit
def _transform(work, radices, cos, sin, sign):
    """Stockham's passes over work (2, 2, L W): buffer, real and imaginary part. Returns the buffer
    that holds the result; sign 1 forward, -1 inverse without 1/L.
    """
    # each pass reads one buffer and writes the other in order, so no bits are reversed
    m, n, done, here = work.shape[2] // W, W, 0, 0
    for radix in radices:
        m //= radix
        ar, ai, br, bi = work[here, 0], work[here, 1], work[1 - here, 0], work[1 - here, 1]
        if radix == 2:
            _pass2(ar, ai, br, bi, m, n, cos[done:], sin[done:], sign)
        else:
            _pass3(ar, ai, br, bi, m, n, cos[done:], sin[done:], sign)
        done += (radix - 1) * m
        n, here = n * radix, 1 - here
    return here


# -- spectrum of two real columns <-> rows of products ---


@njit
def _split(z, kind, rows, out, c, n):
    """Rows of products out[:, c : c + n] from the spectrum z (2, L W); rows (M, 2 W) is scratch."""
    # of real columns a and b, z = A + i B, so A = (z[f] + conj z[-f]) / 2 and B the rest over i
    L = z.shape[1] // W
    H = L // 2
    zr, zi = z[0].reshape(L, W), z[1].reshape(L, W)
    half, end = (HALF, ONE) if kind == SPLIT else (np.float32(1 / L), np.float32(1 / L))
    for f in (0, H):
        for j in range(W):
            rows[f, j] = end * zr[f, j]
            rows[f, W + j] = end * zi[f, j]
    for f in range(1, H):
        g = L - f
        for j in range(W):
            rows[f, j] = half * (zr[f, j] + zr[g, j])
            rows[H + f, j] = half * (zi[f, j] - zi[g, j])
        for j in range(W):
            rows[f, W + j] = half * (zi[f, j] + zi[g, j])
            rows[H + f, W + j] = half * (zr[g, j] - zr[f, j])
        for j in range(2 * W):
            re, im = rows[f, j], rows[H + f, j]
            if kind == SPLIT:
                rows[L - 1 + f, j] = re + im
            else:
                rows[f, j] = re - im
                rows[H + f, j] = -(re + im)
                rows[L - 1 + f, j] = im
    for i in range(rows.shape[0]):
        for j in range(n):
            out[i, c + j] = rows[i, j]


@njit
def _merge(planes, kind, c, n, rows, z):
    """Spectrum z (2, L W) of two real columns per lane from rows of products planes[:, c : c + n];
    rows (M, 2 W) is scratch.
    """
    L = z.shape[1] // W
    H = L // 2
    zr, zi = z[0].reshape(L, W), z[1].reshape(L, W)
    full, end = (np.float32(1 / L), np.float32(1 / L)) if kind == MERGE else (HALF, ONE)
    for i in range(rows.shape[0]):
        for j in range(n):
            rows[i, j] = planes[i, c + j]
        for j in range(n, 2 * W):  # no column here, but it shares a transform with one
            rows[i, j] = 0
    for f in (0, H):
        for j in range(W):
            zr[f, j] = end * rows[f, j]
            zi[f, j] = end * rows[f, W + j]
    for f in range(1, H):
        g = L - f
        for j in range(2 * W):
            a, b, d = rows[f, j], rows[H + f, j], rows[L - 1 + f, j]
            rows[f, j] = full * (a - b if kind == MERGE else a + d)
            rows[H + f, j] = full * (d - a - b if kind == MERGE else b + d)
        for j in range(W):
            zr[f, j] = rows[f, j] - rows[H + f, W + j]
            zr[g, j] = rows[f, j] + rows[H + f, W + j]
        for j in range(W):
            zi[f, j] = rows[f, W + j] + rows[H + f, j]
            zi[g, j] = rows[f, W + j] - rows[H + f, j]


# -- signals ---


@compiled(parallel=True)
def forward(x, tiles, hop, before, kind, radices, cos, sin, out):
    """Rows of products out (M, tiles, R) of the signal x (T, R); see the module's docstring for the
    tiles.
    """
    T, R = x.shape
    M = out.shape[0]
    L = 2 * (M + 1) // 3
    for block in prange((R + 2 * W - 1) // (2 * W)):
        c = block * 2 * W
        n = min(2 * W, R - c)
        work, rows = np.empty((2, 2, L * W), np.float32), np.empty((M, 2 * W), np.float32)
        for i in range(tiles):
            work[0] = 0
            for u in range(max(-before, -i * hop), min(hop, T - i * hop)):
                row, at = x[i * hop + u], u % L * W
                for j in range(min(W, n)):
                    work[0, 0, at + j] = row[c + j]
                for j in range(n - W):
                    work[0, 1, at + j] = row[c + W + j]
            z = work[_transform(work, radices, cos, sin, ONE)]
            _split(z, kind, rows, out[:, i], c, n)


@compiled(parallel=True)
def inverse(planes, hop, before, kind, radices, cos, sin, out):
    """The signal out (T, R) of the rows of products planes (M, tiles, R); where tiles overlap
    (before > 0) they add up.
    """
    tiles, (T, R) = planes.shape[1], out.shape
    M = planes.shape[0]
    L = 2 * (M + 1) // 3
    for block in prange((R + 2 * W - 1) // (2 * W)):
        c = block * 2 * W
        n = min(2 * W, R - c)
        work, rows = np.empty((2, 2, L * W), np.float32), np.empty((M, 2 * W), np.float32)
        out[:, c : c + n] = 0
        for i in range(tiles):
            _merge(planes[:, i], kind, c, n, rows, work[0])
            z = work[_transform(work, radices, cos, sin, -ONE)]
            for u in range(max(-before, -i * hop), min(hop, T - i * hop)):
                row, at = out[i * hop + u], u % L * W
                for j in range(min(W, n)):
                    row[c + j] += z[0, at + j]
                for j in range(n - W):
                    row[c + W + j] += z[1, at + j]


# -- taps of version gauss, built and reduced in the cache ---


@njit(inline="always")
def _exp(x):
    """exp(x) for TINY_LOG <= x <= 0 to a few units in the last place; unlike math.exp it
    vectorises.
    """
    y = x * LOG2E
    shifted = np.float32(y + ROUND)  # its last bits are y rounded to an integer
    z = (y - (shifted - ROUND)) * LN2
    poly = (((((C6 * z + C5) * z + C4) * z + C3) * z + HALF) * z + ONE) * z + ONE
    exponent = shifted.view(np.int32) - ROUND_BITS + np.int32(127)
    return poly * np.int32(exponent << np.int32(23)).view(np.float32)


@njit
def _gauss(p, sigma, c, n, g, norm):
    """Unnormalised taps g (K, W) of n synapses from column c on, and norm = 1 / (sum + 1e-7)."""
    K = g.shape[0]
    place, slope = np.empty(W, np.float32), np.empty(W, np.float32)
    for j in range(n):
        place[j], slope[j] = p[c + j], ONE / (abs(sigma[c + j]) + np.float32(0.27))
        norm[j] = np.float32(1e-7)
    for i in range(K):
        for j in range(n):
            a = (np.float32(i - K // 2) - place[j]) * slope[j]
            a *= -HALF * a
            g[i, j] = np.float32(0) if a <= TINY_LOG else _exp(a)  # NaN stays NaN
        for j in range(n):
            norm[j] += g[i, j]
    for j in range(n):
        norm[j] = ONE / norm[j]


@njit
def _add_taps(w, p, sigma, c, n, g, norm, taps):
    """Adds the taps of n synapses from column c of w, p, sigma (E, R) on to taps (K, n), by
    delay.
    """
    K = g.shape[0]
    for e in range(w.shape[0]):
        _gauss(p[e], sigma[e], c, n, g, norm)
        for j in range(n):
            norm[j] *= w[e, c + j]
        for i in range(K):
            for j in range(n):
                taps[K - 1 - i, j] += g[i, j] * norm[j]


@njit
def _reduce_taps(dk, w, p, sigma, c, n, g, sums, dw, dp, dsigma):
    """Gradients dw, dp, dsigma (E, R) of n synapses from column c on, by the equations of
    Hammouamri et al. 2024, from their taps' gradient dk (K, n or more), by delay. sums (6 W) holds
    the normaliser and five moments of the taps.
    """
    K = g.shape[0]
    for e in range(w.shape[0]):
        _gauss(p[e], sigma[e], c, n, g, sums[:W])
        sums[W:] = 0
        for i in range(K):
            pull, taps, place = dk[K - 1 - i], g[i], p[e, c : c + n]
            for j in range(n):
                d = np.float32(i - K // 2) - place[j]
                weighted = taps[j] * sums[j]
                pulled = weighted * pull[j]
                sums[W + j] += pulled
                sums[2 * W + j] += pulled * d
                sums[3 * W + j] += pulled * d * d
                sums[4 * W + j] += weighted * d
                sums[5 * W + j] += weighted * d * d
        for j in range(n):
            q = c + j
            width = abs(sigma[e, q]) + np.float32(0.27)
            a = w[e, q] / (width * width)
            dw[e, q] = sums[W + j]
            dp[e, q] = a * (sums[2 * W + j] - sums[4 * W + j] * sums[W + j])
            slope = a / width * (sums[3 * W + j] - sums[5 * W + j] * sums[W + j])
            dsigma[e, q] = slope if sigma[e, q] > 0 else -slope if sigma[e, q] < 0 else 0 * slope


@compiled(parallel=True)
def gauss_taps(w, p, sigma, out):
    """Taps out (K, R) by delay of the synapses w, p, sigma (E, R)."""
    K, R = out.shape
    for block in prange((R + W - 1) // W):
        c = block * W
        n = min(W, R - c)
        g, norm = np.empty((K, W), np.float32), np.empty(W, np.float32)
        out[:, c : c + n] = 0
        _add_taps(w, p, sigma, c, n, g, norm, out[:, c : c + n])


@compiled(parallel=True)
def gauss_taps_grad(dk, w, p, sigma, dw, dp, dsigma):
    """Gradients dw, dp, dsigma (E, R) from the taps' gradient dk (K, R), by delay."""
    K, R = dk.shape
    for block in prange((R + W - 1) // W):
        c = block * W
        n = min(W, R - c)
        g, sums = np.empty((K, W), np.float32), np.empty(6 * W, np.float32)
        _reduce_taps(dk[:, c : c + n], w, p, sigma, c, n, g, sums, dw, dp, dsigma)


@compiled(parallel=True)
def gauss_forward(w, p, sigma, K, radices, cos, sin, out):
    """Rows of products out (M, R) of the taps of the synapses w, p, sigma (E, R)."""
    R, M = w.shape[1], out.shape[0]
    L = 2 * (M + 1) // 3
    for block in prange((R + 2 * W - 1) // (2 * W)):
        c = block * 2 * W
        n = min(2 * W, R - c)
        work, rows = np.zeros((2, 2, L * W), np.float32), np.empty((M, 2 * W), np.float32)
        g, norm = np.empty((K, W), np.float32), np.empty(W, np.float32)
        for part in range(2):
            lo, m = c + part * W, max(0, min(W, n - part * W))
            _add_taps(w, p, sigma, lo, m, g, norm, work[0, part].reshape(L, W))
        z = work[_transform(work, radices, cos, sin, ONE)]
        _split(z, SPLIT, rows, out, c, n)


@compiled(parallel=True)
def gauss_inverse(planes, w, p, sigma, K, radices, cos, sin, dw, dp, dsigma):
    """Gradients dw, dp, dsigma (E, R) from the gradient of the taps' rows of products, planes (M,
    R).
    """
    M, R = planes.shape
    L = 2 * (M + 1) // 3
    for block in prange((R + 2 * W - 1) // (2 * W)):
        c = block * 2 * W
        n = min(2 * W, R - c)
        work, rows = np.empty((2, 2, L * W), np.float32), np.empty((M, 2 * W), np.float32)
        g, sums = np.empty((K, W), np.float32), np.empty(6 * W, np.float32)
        _merge(planes, MERGE_ADJOINT, c, n, rows, work[0])
        z = work[_transform(work, radices, cos, sin, -ONE)]
        for part in range(2):
            lo, m = c + part * W, max(0, min(W, n - part * W))
            dk = z[part].reshape(L, W)
            _reduce_taps(dk, w, p, sigma, lo, m, g, sums, dw, dp, dsigma)
