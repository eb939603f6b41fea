"""The scan over time of any NEURONS entry as numba kernels, forward and adjoint.

A kernel takes tiles of neurons through all T steps, so their state never leaves the cache. Saved
for the adjoint: the input, and the state at every Q-th step. The adjoint repeats Q steps at a time,
by the same instructions and so to the same bits, and walks them back.

Legend: T time steps, N neurons, M neurons of all samples, L of these per tile at most, Q steps per
checkpoint. x input current, z the same after normalisation, h potential before the reset, v after
it, w second state variable, s fired (0/1), c0..c3 coefficients of the neuron, g gradient (gh is
that of h).
"""

from types import FunctionType
from typing import Any

import numpy as np

from ..dropout import UNIT, draw
from ..philox import LOW, words
from .specialise import inlined

Q = 16
L = 1024  # the adjoint keeps 3 Q L states of a chunk, 200 kB: a second-level cache holds them
ZERO, UNIT32 = np.float32(0), np.float32(UNIT)

# -- functions that do not depend on the neuron ---

draw_word = inlined(FunctionType(draw.__code__, {"words": inlined(words), "LOW": LOW}))


@inlined
def load(rows, first, a, lo, m):
    """Columns lo to lo + m of ``a`` into rows ``first`` and following."""
    for k in range(len(a)):
        for n in range(m):
            rows[first + k, n] = a[k, lo + n]


@inlined
def store(a, rows, first, lo, m):
    for k in range(len(a)):
        for n in range(m):
            a[k, lo + n] = rows[first + k, n]


@inlined
def draw_mask(keep, dropout, offset, m):
    """What spikes are multiplied by: 0 or 1/(1-p), or 1 without dropout."""
    seed, p_drop, factor, mask = dropout
    for n in range(m):
        u = np.float32(draw_word(seed, offset + n)) * UNIT32 if mask else UNIT32
        keep[n] = factor if u >= p_drop else ZERO


def no_settle(x, v, s, w, c0, c1, c2, c3):
    return w


def no_settle_adjoint(gw, x, v, s, w, c0, c1, c2, c3):
    return 0.0, 0.0, 0.0, gw, 0.0, 0.0, 0.0, 0.0


# -- templates: `specialise` puts a neuron's functions and constants in the place of these names ---

charge: Any = None
charge_adjoint: Any = None
settle: Any = None
settle_adjoint: Any = None
slope: Any = None
read: Any = None  # from and to the type of x, s and their gradients
write: Any = None
TWO = False  # whether the neuron has a second state variable
C = 0  # number of its coefficients
U = False  # whether the potentials of every step are wanted, or have a gradient


def step(z, v, w, c0, c1, c2, c3, firing):
    threshold, rest, drop, hard = firing
    h = charge(z, v, w, c0, c1, c2, c3, rest)
    s = np.float32(h >= threshold)
    v = (rest if hard else h - drop) if h >= threshold else h
    return h, s, v, settle(z, v, s, w, c0, c1, c2, c3)


def step_adjoint(gs, gv, gw, z, v, w, c0, c1, c2, c3, h, v_new, firing, cuts, alpha):
    """Gradients of z, v, w and the coefficients from those of the spike and of the new state."""
    threshold, rest, drop, hard = firing
    detach_reset, detach_state = cuts
    s = np.float32(h >= threshold)
    ax, av, a_s, aw, a0, a1, a2, a3 = settle_adjoint(gw, z, v_new, s, w, c0, c1, c2, c3)
    gv, gs = gv + av, gs + a_s
    if not detach_reset:
        gs += gv * (rest - h if hard else -drop)
    gh = gs * slope(h - threshold, alpha) + (ZERO if hard and h >= threshold else gv)
    gz, gv, bw, b0, b1, b2, b3 = charge_adjoint(gh, z, v, w, c0, c1, c2, c3, rest)
    gv, gw = (ZERO, ZERO) if detach_state else (gv, aw + bw)
    gz = gz + ax if TWO else gz
    return gz, gv, gw, a0 + b0, a1 + b1, a2 + b2, a3 + b3


def scan_fwd(
    x,  # input current, (T, M)
    N,  # the neuron at place m is m mod N
    p,  # scale, shift and coefficients of each neuron, repeated, (2 + C, at least N + size)
    state,  # (1 or 2, M), in: before the first step; out: after the last
    s,  # out: spikes after dropout, (T, M)
    saved,  # out: state before steps 0, Q, 2Q.., (ceil(T/Q), 1 or 2, M)
    u,  # out: potential after each step, (T, M), if U
    firing,  # threshold, rest, drop, hard: a spike resets to rest (hard) or by drop
    dropout,  # seed, p, 1/(1-p), and 0, 1 or 2: no mask, one for all steps, one per step
    size,  # neurons per tile, at most L
    first,  # tiles of this thread
    last,
):
    T, M = x.shape
    rows = np.zeros((9, L), np.float32)  # one array, so that LLVM knows that no two overlap
    scale, shift, c0, c1, c2, c3 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    keep, v, w = rows[6], rows[7], rows[8]
    for i in range(first, last):
        lo = i * size
        m = min(size, M - lo)
        load(rows, 0, p, lo % N, m)
        load(rows, 7, state, lo, m)
        draw_mask(keep, dropout, lo, m)
        for t in range(T):
            if dropout[3] == 2:
                draw_mask(keep, dropout, t * M + lo, m)
            if t % Q == 0:
                store(saved[t // Q], rows, 7, lo, m)
            x_t, s_t = x[t, lo : lo + m], s[t, lo : lo + m]
            u_t = u[t, lo : lo + m] if U else u[0]
            for n in range(m):
                z = read(x_t[n]) * scale[n] + shift[n]
                _, fired, v[n], new = step(z, v[n], w[n], c0[n], c1[n], c2[n], c3[n], firing)
                if TWO:
                    w[n] = new
                s_t[n] = write(fired * keep[n])
                if U:
                    u_t[n] = v[n]
        store(state, rows, 7, lo, m)


def scan_bwd(
    ds,  # gradient of the spikes after dropout, (T, M)
    x,  # from here to saved: what the forward kernel read and saved
    N,
    p,
    saved,
    dstate,  # (1 or 2, M), in: gradient of the state after the last step; out: before the first
    dx,  # out: (T, M)
    dp,  # out: gradient of p, summed over the samples of a tile, (tiles, 2 + C, min(N, size))
    du,  # gradient of the potential after each step, (T, M), if U
    firing,
    cuts,  # whether no gradient passes through the reset, and through the state before
    alpha,
    dropout,
    size,
    first,
    last,
):
    T, M = x.shape
    rows = np.zeros((15, L), np.float32)
    scale, shift, c0, c1, c2, c3 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    keep, gv, gw = rows[6], rows[7], rows[8]
    d_scale, d_shift, d0, d1, d2, d3 = rows[9], rows[10], rows[11], rows[12], rows[13], rows[14]
    hs = np.zeros((Q, L), np.float32)
    vs, ws = np.zeros((Q + 1, L), np.float32), np.zeros((Q + 1, L), np.float32)
    for i in range(first, last):
        lo = i * size
        m = min(size, M - lo)
        load(rows, 0, p, lo % N, m)
        load(rows, 7, dstate, lo, m)
        draw_mask(keep, dropout, lo, m)
        rows[9:, :m] = ZERO
        for k in range((T - 1) // Q, -1, -1):
            steps = min(Q, T - k * Q)
            for n in range(m):
                vs[0, n], ws[0, n] = saved[k, 0, lo + n], saved[k, 1, lo + n] if TWO else ZERO
            for q in range(steps):  # the chunk once more
                x_t, h, v, w = x[k * Q + q, lo : lo + m], hs[q], vs[q], ws[q]
                v_new, w_new = vs[q + 1], ws[q + 1]
                for n in range(m):
                    z = read(x_t[n]) * scale[n] + shift[n]
                    c = c0[n], c1[n], c2[n], c3[n]
                    h[n], _, v_new[n], new = step(z, v[n], w[n], *c, firing)
                    if TWO:
                        w_new[n] = new
            for q in range(steps - 1, -1, -1):  # and back
                t = k * Q + q
                if dropout[3] == 2:
                    draw_mask(keep, dropout, t * M + lo, m)
                x_t, ds_t, dx_t = x[t, lo : lo + m], ds[t, lo : lo + m], dx[t, lo : lo + m]
                h, v, w, v_new = hs[q], vs[q], ws[q], vs[q + 1]
                du_t = du[t, lo : lo + m] if U else du[0]
                for n in range(m):
                    z = read(x_t[n]) * scale[n] + shift[n]
                    before, after = (z, v[n], w[n], c0[n], c1[n], c2[n], c3[n]), (h[n], v_new[n])
                    g = read(ds_t[n]) * keep[n], gv[n] + du_t[n] if U else gv[n], gw[n]
                    gz, gv[n], new, e0, e1, e2, e3 = step_adjoint(
                        *g, *before, *after, firing, cuts, alpha
                    )
                    if TWO:
                        gw[n] = new
                    dx_t[n] = write(gz * scale[n])
                    d_scale[n] += gz * read(x_t[n])
                    d_shift[n] += gz
                    if C > 0:
                        d0[n] += e0
                        d1[n] += e1
                    if C > 2:
                        d2[n] += e2
                        d3[n] += e3
        store(dstate, rows, 7, lo, m)
        dp[i] = ZERO
        width = dp.shape[2]
        for k in range(dp.shape[1]):
            for r in range(0, m, width):
                for n in range(min(width, m - r)):
                    dp[i, k, n] += rows[9 + k, r + n]
