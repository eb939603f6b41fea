"""The scan of recurrent neurons in Triton, forward and adjoint.

A program takes BB samples through all T steps. What its lanes tell each other from step to step
goes through global memory, which the caches hold, with a barrier between writing and reading; so
any number of neurons fits, a block of them at a time. No program reads what another writes, and
none adds where another does.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples, K steps that a spike may
take, j = 0 the next step. BB samples, BN neurons that receive and BM that send per block. In
kernels: i_ index, g gradient, z whole current, c0..c3 coefficients of the neuron.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# (the body of a jit function is Triton's language)
import triton
import triton.language as tl

from .lif_kernels import reset, step_adjoint

# -- parts of kernels ---


@triton.jit
def _samples(B, N, BB: tl.constexpr):
    """Samples of this program, which of them exist, and M."""
    i_b = tl.program_id(0) * BB + tl.arange(0, BB)
    return tl.cast(i_b, tl.int64)[:, None] * N, (i_b < B)[:, None], tl.cast(B, tl.int64) * N


@triton.jit
def _columns(lo, N, BN: tl.constexpr):
    i_n = lo + tl.arange(0, BN)
    return i_n[None, :], (i_n < N)[None, :]


@triton.jit
def _per_neuron(p, i_n, live):
    """In a row; what is absent is 0."""
    if p is None:
        return 0.0
    else:
        return tl.load(p + i_n, live, other=0.0)


@triton.jit
def _at(p, t, T, i_m, live, M):
    """A tile of step t of (T, B, N); 0 at other steps than 0 to T - 1."""
    t = tl.zeros([1, 1], tl.int64) + t  # the interpreter wants no number among masks
    return tl.load(p + t * M + i_m, live & (t >= 0) & (t < T), other=0.0)


@triton.jit
def _fired(s, past, t, T, K, i_m, live, M):
    """Spikes of step t, which may lie before the first."""
    return _at(s, t, T, i_m, live, M) + _at(past, K + t, tl.where(t < 0, K, 0), i_m, live, M)


@triton.jit
def _product(a, w, i_b, live_b, i_n, live_n, N, BM: tl.constexpr):
    """Rows of a, (B, N), times w, (N, N): columns i_n, and the rows' samples."""
    sum_ = tl.zeros([live_b.shape[0], i_n.shape[1]], tl.float32)
    for lo in range(0, N, BM):
        i_m, live_m = _columns(lo, N, BM)
        rows = tl.load(a + i_b + i_m, live_b & live_m, other=0.0)
        i_w = tl.cast(tl.trans(i_m), tl.int64) * N + i_n
        columns = tl.load(w + i_w, tl.trans(live_m) & live_n, other=0.0)
        sum_ = tl.dot(rows, columns, sum_, input_precision="ieee")
    return sum_


@triton.jit(do_not_specialize=["T", "B", "N", "K"])
def recurrent_fwd_kernel(
    x,  # feed-forward current, (T, B, N)
    w,  # weights by delay, sender and receiver, (K, N, N), or (1, N, N) where not SYNAPTIC
    taps,  # share of each delay j, (K, N), or None
    c0,  # coefficients of the neuron, (N,) or None each
    c1,
    c2,
    c3,
    start,  # state before the first step, (S, B, N)
    past,  # spikes of the K steps before it, the oldest first, (K, B, N)
    s,  # out: spikes, (T, B, N)
    trace,  # out: state after each step, (S, T, B, N); not SAVE: start, and out: the last
    z,  # out, if SAVE: whole current, (T, B, N)
    u,  # out, if there are taps: what of each sender is heard, (T, B, N)
    v_threshold,
    rest,
    T,
    B,
    N,
    K,
    CHARGE: tl.constexpr,
    SETTLE: tl.constexpr,
    RESET: tl.constexpr,
    SYNAPTIC: tl.constexpr,
    SAVE: tl.constexpr,
    BB: tl.constexpr,
    BN: tl.constexpr,
    BM: tl.constexpr,
):
    i_b, live_b, M = _samples(B, N, BB)
    steps = T if SAVE else 1
    for t in range(0, T):
        if taps is not None:
            for lo in range(0, N, BN):
                i_n, live_n = _columns(lo, N, BN)
                heard = tl.zeros([BB, BN], tl.float32)
                for j in range(0, K):
                    share = tl.load(taps + j * N + i_n, live_n, other=0.0)
                    heard += share * _fired(s, past, t - 1 - j, T, K, i_b + i_n, live_b & live_n, M)
                tl.store(u + tl.cast(t, tl.int64) * M + i_b + i_n, heard, live_b & live_n)
            tl.debug_barrier()
        for lo in range(0, N, BN):
            i_n, live_n = _columns(lo, N, BN)
            i_m, live = i_b + i_n, live_b & live_n
            current = _at(x, t, T, i_m, live, M)
            if taps is not None:
                current += _product(
                    u + tl.cast(t, tl.int64) * M, w, i_b, live_b, i_n, live_n, N, BM
                )
            else:
                for j in range(0, K if SYNAPTIC else 1):
                    before = t - 1 - j
                    w_j = w + tl.cast(j, tl.int64) * N * N
                    if before >= 0:
                        a = s + tl.cast(before, tl.int64) * M
                        current += _product(a, w_j, i_b, live_b, i_n, live_n, N, BM)
                    else:
                        a = past + tl.cast(K + before, tl.int64) * M
                        current += _product(a, w_j, i_b, live_b, i_n, live_n, N, BM)
            k0, k1 = _per_neuron(c0, i_n, live_n), _per_neuron(c1, i_n, live_n)
            k2, k3 = _per_neuron(c2, i_n, live_n), _per_neuron(c3, i_n, live_n)
            v, o = _state(start, trace, t, T, i_m, live, M, SETTLE, SAVE)
            h = CHARGE(current, v, o, k0, k1, k2, k3, rest)
            f = (h - v_threshold >= 0.0).to(tl.float32)
            v = reset(h, f, v_threshold, rest, RESET)
            to = (tl.cast(t, tl.int64) * M if SAVE else 0) + i_m
            if SETTLE is not None:
                o = SETTLE(current, v, f, o, k0, k1, k2, k3)
                tl.store(trace + steps * M + to, o, live)
            tl.store(trace + to, v, live)
            tl.store(s + tl.cast(t, tl.int64) * M + i_m, f, live)
            if SAVE:
                tl.store(z + to, current, live)
        tl.debug_barrier()


@triton.jit
def _state(start, trace, t, T, i_m, live, M, SETTLE: tl.constexpr, SAVE: tl.constexpr):
    """State before step t."""
    o = 0.0
    if SAVE:
        v = _at(start, t, 1, i_m, live, M) + _at(trace, t - 1, T, i_m, live, M)
        if SETTLE is not None:
            o = _at(start + M, t, 1, i_m, live, M) + _at(trace + T * M, t - 1, T, i_m, live, M)
    else:
        v = tl.load(trace + i_m, live, other=0.0)
        if SETTLE is not None:
            o = tl.load(trace + M + i_m, live, other=0.0)
    return v, o


@triton.jit
def _add(p, i, value, live):
    """Adds to what only this program writes."""
    if p is not None:
        tl.store(p + i, tl.load(p + i, live, other=0.0) + value, live)


@triton.jit(do_not_specialize=["T", "B", "N", "K"])
def recurrent_bwd_kernel(
    ds,  # gradient of the spikes, (T, B, N)
    dtrace,  # gradient of the state after each step, (S, T, B, N), or None for 0
    w,  # weights by delay, receiver and sender, (K, N, N), or (1, N, N) where not SYNAPTIC
    taps,  # from here to z: what the forward kernel read and saved
    c0,
    c1,
    c2,
    c3,
    start,
    past,
    s,
    trace,
    z,
    dz,  # out: gradient of the whole current, (T, B, N)
    du,  # out, if there are taps: of what is heard, (T, B, N)
    dstart,  # zeros, out: (S, B, N)
    dpast,  # out: (K, B, N)
    dtaps,  # zeros, out, if there are taps: of a program's samples, (programs, K, N)
    d0,  # zeros, out: gradients of the coefficients, of every sample, (B, N) each, or None
    d1,
    d2,
    d3,
    v_threshold,
    rest,
    alpha,
    T,
    B,
    N,
    K,
    CHARGE: tl.constexpr,
    CHARGE_ADJOINT: tl.constexpr,
    SETTLE: tl.constexpr,
    SETTLE_ADJOINT: tl.constexpr,
    SLOPE: tl.constexpr,
    RESET: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    DETACH_STATE: tl.constexpr,
    SYNAPTIC: tl.constexpr,
    BB: tl.constexpr,
    BN: tl.constexpr,
    BM: tl.constexpr,
):
    i_b, live_b, M = _samples(B, N, BB)
    for back in range(0, T + K):
        t = T - 1 - back
        for lo in range(0, N, BN):
            i_n, live_n = _columns(lo, N, BN)
            i_m, live = i_b + i_n, live_b & live_n
            gs = _at(ds, t, T, i_m, live, M)
            fired = _fired(s, past, t, T, K, i_m, live, M)
            for j in range(tl.maximum(0, -1 - t), tl.minimum(K, T - 1 - t)):
                later = tl.cast(t + 1 + j, tl.int64) * M
                if taps is not None:
                    g = tl.load(du + later + i_m, live, other=0.0)
                    gs += tl.load(taps + j * N + i_n, live_n, other=0.0) * g
                    i_part = (tl.cast(tl.program_id(0), tl.int64) * K + j) * N + i_n
                    _add(dtaps, i_part, tl.sum(fired * g, 0)[None, :], live_n)
                else:
                    w_j = w + tl.cast(j, tl.int64) * N * N
                    gs += _product(dz + later, w_j, i_b, live_b, i_n, live_n, N, BM)
            if t < 0:
                tl.store(dpast + tl.cast(K + t, tl.int64) * M + i_m, gs, live)
            else:
                k0, k1 = _per_neuron(c0, i_n, live_n), _per_neuron(c1, i_n, live_n)
                k2, k3 = _per_neuron(c2, i_n, live_n), _per_neuron(c3, i_n, live_n)
                v, o = _state(start, trace, t, T, i_m, live, M, SETTLE, True)
                current = _at(z, t, T, i_m, live, M)
                h = CHARGE(current, v, o, k0, k1, k2, k3, rest)
                f = (h - v_threshold >= 0.0).to(tl.float32)
                gv, go = tl.load(dstart + i_m, live, other=0.0), 0.0
                if dtrace is not None:
                    gv += _at(dtrace, t, T, i_m, live, M)
                if SETTLE is not None:
                    go = tl.load(dstart + M + i_m, live, other=0.0)
                    if dtrace is not None:
                        go += _at(dtrace + T * M, t, T, i_m, live, M)
                gz, gv, go, e0, e1, e2, e3 = step_adjoint(
                    *(gv, go, gs, current, v, o, f, k0, k1, k2, k3, v_threshold, rest, alpha),
                    *(CHARGE, CHARGE_ADJOINT, SETTLE_ADJOINT, SLOPE),
                    *(RESET, DETACH_RESET, DETACH_STATE),
                )
                tl.store(dz + tl.cast(t, tl.int64) * M + i_m, gz, live)
                tl.store(dstart + i_m, gv, live)
                if SETTLE is not None:
                    tl.store(dstart + M + i_m, go, live)
                _add(d0, i_m, e0, live)
                _add(d1, i_m, e1, live)
                _add(d2, i_m, e2, live)
                _add(d3, i_m, e3, live)
        tl.debug_barrier()
        if taps is not None and t >= 0:
            at = tl.cast(t, tl.int64) * M
            for lo in range(0, N, BN):
                i_n, live_n = _columns(lo, N, BN)
                heard = _product(dz + at, w, i_b, live_b, i_n, live_n, N, BM)
                tl.store(du + at + i_b + i_n, heard, live_b & live_n)
            tl.debug_barrier()
