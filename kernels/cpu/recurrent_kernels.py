"""The scan of recurrent neurons as numba kernels, forward and adjoint.

A thread takes some samples through all T steps. Forward, work follows the spikes: a spike writes
what it will be heard as into a ring of the next K steps, and rows of weights are read for those
senders alone that are heard at a step. Backward nothing is sparse, and G samples share each row of
weights that is read.

Legend: T time steps, B batch, N neurons, K steps that a spike may take, G samples per tile, L
neurons per block, S state variables, C coefficients, R = N rounded up to 4. Neuron n of block k is
n - L k; a block's rows lie in one array at constant distances, so that LLVM knows that no two
overlap, and vectorises. Slot t mod K of a ring is step t; j = 0 is the next step. Where SYNAPTIC,
each synapse has taps of its own; else each sender has, and a weight per synapse.
"""

from typing import Any

import numpy as np
from numba import njit

from .lif_kernels import ZERO, step, step_adjoint
from .specialise import FAST, inlined

G, L = 4, 256

# -- templates, see lif_kernels.py ---

charge: Any = None
charge_adjoint: Any = None
settle: Any = None
settle_adjoint: Any = None
slope: Any = None
TWO = False
C = 0
SYNAPTIC = False
SAVE = True  # whether an adjoint will follow

# -- parts ---


@inlined
def put(to, a):
    for n in range(len(a)):
        to[n] = a[n]


@inlined
def add(to, a):
    for n in range(len(a)):
        to[n] += a[n]


@inlined
def add_rows(to, w, who, value, count, lo):
    """to += sum_e value[e] w[who[e]], columns from lo on; in this order, whatever the grouping."""
    m = len(to)
    for e in range(0, count, 4):
        a0, a1, a2, a3 = value[e], value[e + 1], value[e + 2], value[e + 3]
        w0, w1 = w[who[e], lo : lo + m], w[who[e + 1], lo : lo + m]
        w2, w3 = w[who[e + 2], lo : lo + m], w[who[e + 3], lo : lo + m]
        for n in range(m):
            to[n] = to[n] + a0 * w0[n] + a1 * w1[n] + a2 * w2[n] + a3 * w3[n]


@njit(forceinline=True, fastmath={"contract"}, **FAST)
def add_product(acc, first, a, w, lo, m):
    """Rows first to first + G of acc += a @ w, columns lo to lo + m of it."""
    p, q, r, s = acc[first], acc[first + 1], acc[first + 2], acc[first + 3]
    for k in range(0, len(w), 4):
        w0, w1, w2, w3 = w[k], w[k + 1], w[k + 2], w[k + 3]
        w0, w1, w2, w3 = w0[lo : lo + m], w1[lo : lo + m], w2[lo : lo + m], w3[lo : lo + m]
        p0, p1, p2, p3 = a[0, k], a[0, k + 1], a[0, k + 2], a[0, k + 3]
        q0, q1, q2, q3 = a[1, k], a[1, k + 1], a[1, k + 2], a[1, k + 3]
        r0, r1, r2, r3 = a[2, k], a[2, k + 1], a[2, k + 2], a[2, k + 3]
        s0, s1, s2, s3 = a[3, k], a[3, k + 1], a[3, k + 2], a[3, k + 3]
        for n in range(m):
            p[n] = p[n] + p0 * w0[n] + p1 * w1[n] + p2 * w2[n] + p3 * w3[n]
            q[n] = q[n] + q0 * w0[n] + q1 * w1[n] + q2 * w2[n] + q3 * w3[n]
            r[n] = r[n] + r0 * w0[n] + r1 * w1[n] + r2 * w2[n] + r3 * w3[n]
            s[n] = s[n] + s0 * w0[n] + s1 * w1[n] + s2 * w2[n] + s3 * w3[n]


# -- forward ---


@inlined
def listed(a, who, value):
    """Numbers of ``a`` that are not 0, and their places; followed by zeros. Returns how many."""
    count = 0
    for n in range(len(a)):
        if a[n] != ZERO:
            who[count], value[count] = n, a[n]
            count += 1
    for e in range(count, count + 4):
        who[e], value[e] = 0, ZERO
    return count


def send(s, t, ring, w, taps, reach, who, value):
    """Writes the spikes of step t into the ring, what they are at steps before 0 left out."""
    K = len(ring)
    count = listed(s, who, value)
    if SYNAPTIC:
        for j in range(max(0, -1 - t), K):
            add_rows(ring[(t + 1 + j) % K], w[j], who, value, count, 0)
    else:
        for e in range(count):
            m = who[e]
            for j in range(max(reach[0, m], -1 - t), reach[1, m]):
                ring[(t + 1 + j) % K, m] += value[e] * taps[j, m]


def recurrent_fwd_kernel(
    x,  # feed-forward current, (T, B, N)
    w,  # weights by delay, sender and receiver, (K, N, N), or (1, N, N) where not SYNAPTIC
    taps,  # share of each delay j, (K, N), where not SYNAPTIC
    reach,  # delays j from which and to which a sender's taps are not 0, (2, N)
    p,  # coefficients of the neurons, (4, N)
    start,  # state before the first step, (S, B, N)
    past,  # spikes of the K steps before it, the oldest first, (K, B, N)
    s,  # out: spikes, (T, B, N)
    trace,  # out: state after each step, (S, T, B, N); not SAVE: after the last, (S, 1, B, N)
    z,  # out, if SAVE: whole current, (T, B, N)
    u,  # out: what of each sender is heard, (T, B, N), or nothing
    firing,  # threshold, rest, drop, hard: a spike resets to rest (hard) or by drop
    size,  # samples per tile
    first,  # tiles of this thread
    last,
):
    T, B, N = x.shape
    K, blocks = len(past), (N + L - 1) // L
    rows = np.zeros((blocks, 9, L), np.float32)
    ring = np.zeros((K, N), np.float32)
    who, value = np.zeros(N + 4, np.int64), np.zeros(N + 4, np.float32)
    for k in range(blocks):
        for c in range(4):
            put(rows[k, c], p[c, k * L : min(N, k * L + L)])
    for b in range(first * size, min(B, last * size)):
        ring[:] = ZERO
        for t in range(-K, 0):
            send(past[K + t, b], t, ring, w, taps, reach, who, value)
        for k in range(blocks):
            put(rows[k, 4], start[0, b, k * L : min(N, k * L + L)])
            if TWO:
                put(rows[k, 5], start[1, b, k * L : min(N, k * L + L)])
        for t in range(T):
            heard = ring[t % K]
            count = 0
            if not SYNAPTIC:
                count = listed(heard, who, value)
                if len(u):
                    put(u[t, b], heard)
            for k in range(blocks):
                lo, m = k * L, min(L, N - k * L)
                c0, c1, c2, c3 = rows[k, 0], rows[k, 1], rows[k, 2], rows[k, 3]
                v, o, h, f, a = rows[k, 4], rows[k, 5], rows[k, 6], rows[k, 7], rows[k, 8]
                put(a, x[t, b, lo : lo + m])
                if SYNAPTIC:
                    add(a, heard[lo : lo + m])
                else:
                    add_rows(a[:m], w[0], who, value, count, lo)
                for n in range(m):
                    c = c0[n], c1[n], c2[n], c3[n]
                    h[n], f[n], v[n], new = step(a[n], v[n], o[n], *c, firing)
                    if TWO:
                        o[n] = new
                put(s[t, b, lo : lo + m], f[:m])
                if SAVE:
                    put(z[t, b, lo : lo + m], a[:m])
                if SAVE or t == T - 1:
                    put(trace[0, t if SAVE else 0, b, lo : lo + m], v[:m])
                    if TWO:
                        put(trace[1, t if SAVE else 0, b, lo : lo + m], o[:m])
            heard[:] = ZERO
            send(s[t, b], t, ring, w, taps, reach, who, value)


# -- adjoint ---


def hear(acc, t, lo, m, ring, w, taps, spikes, dtaps):
    """Adds to rows of ``acc`` what the spikes of step t did from then on, by the gradients of the
    next K steps; and the gradient of the taps."""
    K = len(ring)
    for j in range(max(0, -1 - t), K):
        later = ring[(t + 1 + j) % K]
        if SYNAPTIC:
            add_product(acc, 0, later, w[j], lo, m)
        else:
            tap, d = taps[j, lo : lo + m], dtaps[j, lo : lo + m]
            for g in range(G):
                to, s, heard = acc[g], spikes[g], later[g, lo : lo + m]
                for n in range(m):
                    to[n] += tap[n] * heard[n]
                    d[n] += s[n] * heard[n]


def walk(rows, g, t, b, lo, m, z, trace, start, dtrace, firing, cuts, alpha):
    """The adjoint of a neuron's step for sample g of a tile, from the gradient of its spikes."""
    c0, c1, c2, c3 = rows[0], rows[1], rows[2], rows[3]
    d0, d1, d2, d3 = rows[4], rows[5], rows[6], rows[7]
    gv, gw, gs, gz = rows[8 + g], rows[12 + g], rows[16 + g], rows[28]
    a, v, o, v_new = rows[24], rows[25], rows[26], rows[27]
    put(a, z[t, b, lo : lo + m])
    put(v, trace[0, t - 1, b, lo : lo + m] if t else start[0, b, lo : lo + m])
    put(v_new, trace[0, t, b, lo : lo + m])
    if dtrace.shape[1]:
        add(gv, dtrace[0, t, b, lo : lo + m])
    if TWO:
        put(o, trace[1, t - 1, b, lo : lo + m] if t else start[1, b, lo : lo + m])
        if dtrace.shape[1]:
            add(gw, dtrace[1, t, b, lo : lo + m])
    for n in range(m):
        given = a[n], v[n], o[n], c0[n], c1[n], c2[n], c3[n]
        h = charge(*given, firing[1])
        gz[n], gv[n], new, e0, e1, e2, e3 = step_adjoint(
            gs[n], gv[n], gw[n], *given, h, v_new[n], firing, cuts, alpha
        )
        if TWO:
            gw[n] = new
        if C > 0:
            d0[n] += e0
            d1[n] += e1
        if C > 2:
            d2[n] += e2
            d3[n] += e3


def recurrent_bwd_kernel(
    ds,  # gradient of the spikes, (T, B, N)
    dtrace,  # gradient of the state after each step, (S, T, B, N), or (S, 0, 0, 0)
    w,  # weights by delay, receiver and sender, (K, R, N), or (1, R, N) where not SYNAPTIC
    taps,  # from here to z: what the forward kernel read and saved
    p,
    start,
    past,
    s,
    trace,
    z,
    dz,  # out: gradient of the whole current, (T, B, N)
    dstart,  # out: (S, B, N)
    dpast,  # out: (K, B, N)
    dp,  # out: gradient of p, summed over the samples of a tile, (tiles, 4, N)
    dtaps,  # out: of taps likewise, (tiles, K, N)
    firing,
    cuts,  # whether no gradient passes through the reset, and through the state before
    alpha,
    size,
    first,
    last,
):
    T, B, N = ds.shape
    K, R, blocks = len(past), w.shape[1], (N + L - 1) // L
    rows = np.zeros((blocks, 31, L), np.float32)
    ring = np.zeros((K, G, R), np.float32)  # gradients of z, of what is heard where not SYNAPTIC
    now = np.zeros((G, R), np.float32)
    for i in range(first, last):
        b0, many = i * size, min(size, B - i * size)
        rows[:], ring[:], now[:], dtaps[i] = ZERO, ZERO, ZERO, ZERO
        for k in range(blocks):
            for c in range(4):
                put(rows[k, c], p[c, k * L : min(N, k * L + L)])
        for t in range(T - 1, -K - 1, -1):
            for k in range(blocks):
                lo, m = k * L, min(L, N - k * L)
                acc, spikes = rows[k, 16:20], rows[k, 20:24]
                acc[:] = ZERO
                for g in range(many):
                    if t >= 0:
                        put(acc[g], ds[t, b0 + g, lo : lo + m])
                    if not SYNAPTIC:
                        fired = s[t, b0 + g] if t >= 0 else past[K + t, b0 + g]
                        put(spikes[g], fired[lo : lo + m])
                hear(acc, t, lo, m, ring, w, taps, spikes, dtaps[i])
                for g in range(many):
                    if t < 0:
                        put(dpast[K + t, b0 + g, lo : lo + m], acc[g, :m])
                    else:
                        seen = z, trace, start, dtrace
                        walk(rows[k], g, t, b0 + g, lo, m, *seen, firing, cuts, alpha)
                        put(dz[t, b0 + g, lo : lo + m], rows[k, 28, :m])
                        put(now[g, lo : lo + m], rows[k, 28, :m])
            if t >= 0 and SYNAPTIC:
                ring[t % K] = now
            elif t >= 0:
                for k in range(blocks):
                    lo, m = k * L, min(L, N - k * L)
                    acc = rows[k, 16:20]
                    acc[:] = ZERO
                    add_product(acc, 0, now, w[0], lo, m)
                    for g in range(G):
                        put(ring[t % K, g, lo : lo + m], acc[g, :m])
        for k in range(blocks):
            lo, m = k * L, min(L, N - k * L)
            for g in range(many):
                put(dstart[0, b0 + g, lo : lo + m], rows[k, 8 + g, :m])
                if TWO:
                    put(dstart[1, b0 + g, lo : lo + m], rows[k, 12 + g, :m])
            for c in range(C):
                put(dp[i, c, lo : lo + m], rows[k, 4 + c, :m])
