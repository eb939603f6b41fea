"""The scan of any NEURONS entry over time in Triton, forward and adjoint.

The potential is not saved but for a checkpoint every few steps: the adjoint, from the last chunk
back, repeats a chunk under the recorded spikes and keeps its states in registers, which costs no
memory traffic. Each sample writes its own gradients of per-neuron values; one sum follows, so there
are no atomics and the result is the same to the last bit every time.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples, Q steps per chunk, BN
neurons per program, W = ceil(N / 32) words of packed spikes. In kernels: i_ index, g gradient (gh
is that of h), z current after normalisation, h potential before the reset, f fired (0/1), w second
state variable, c0..c3 coefficients of the neuron and k0..k3 their values. Flags of a chunk's steps
are packed: bit q of a lane's word is step q.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# (the body of a jit function is Triton's language)
import triton
import triton.language as tl

from .scan import load, load_steps, place, row

# -- parts of kernels ---


@triton.jit
def reset(h, f, v_threshold, rest, RESET: tl.constexpr):
    if RESET == "hard":
        return tl.where(f > 0.0, rest, h)
    elif RESET == "soft":
        return h - v_threshold * f
    else:
        return h


@triton.jit
def _load4(c0, c1, c2, c3, i_n, live):
    return load(c0, i_n, live), load(c1, i_n, live), load(c2, i_n, live), load(c3, i_n, live)


@triton.jit
def _kept(seed, p_drop, t, i_b, i_n, B, N, MASK: tl.constexpr, Q: tl.constexpr):
    """Packed flags of the spikes that dropout keeps, steps t to t + Q."""
    kept = tl.full(i_n.shape, -1, tl.int32)
    if MASK == "held":
        kept = tl.where(tl.rand(tl.load(seed), i_b * N + i_n) >= p_drop, -1, 0)
    elif MASK == "step":
        for q in range(Q):  # not unrolled: Philox holds many registers
            drop = tl.rand(tl.load(seed), ((t + q) * B + i_b) * N + i_n) < p_drop
            kept ^= drop.to(tl.int32) << q
    return kept


@triton.jit
def _store_fired(bits, fired, i_t, i_b, i_n, T, B, N, Q: tl.constexpr, BN: tl.constexpr):
    """Records packed flags of spikes, steps i_t."""
    W, i_q = tl.cdiv(N, 32), tl.arange(0, Q)[:, None]
    i_k = tl.program_id(1) * (BN // 32) + tl.arange(0, BN // 32)
    on = ((fired[None, :] >> i_q) & 1).to(tl.uint32) << (i_n % 32).to(tl.uint32)[None, :]
    words = tl.sum(tl.reshape(on, [Q, BN // 32, 32]), 2).to(tl.int32, bitcast=True)
    i_word = (tl.cast(i_t, tl.int64) * B + i_b) * W + i_k[None, :]
    tl.store(bits + i_word, words, (i_t < T) & (i_k < W)[None, :])


@triton.jit(do_not_specialize=["T", "B", "N"])
def lif_fwd_kernel(
    x,  # input current, (T, B, N)
    scale,  # (N,) or None: the neuron sees x * scale + shift
    shift,
    v0,  # state before the first step, (B, N), or None: at rest
    w0,
    c0,  # coefficients of the neuron, (N,) or None each
    c1,
    c2,
    c3,
    seed,  # of the dropout mask, () int64, or None
    s,  # out: spikes after dropout, (T, B, N); None: packed spikes are enough
    u,  # out: potential after each step, (T, B, N) float32, or None
    bits,  # out: spikes before dropout, (T, B, W): bit j of word k is neuron 32 k + j
    v_end,  # out: state after the last step, (B, N)
    w_end,  # None if the neuron has one state variable
    checkpoints,  # out: state before steps 0, PERIOD.., (n, 1 or 2, B, N) float32, or None
    v_threshold,
    rest,
    p_drop,
    factor,  # what a kept spike is multiplied by, 1 / (1 - p_drop)
    T,
    B,
    N,
    CHARGE: tl.constexpr,
    SETTLE: tl.constexpr,
    RESET: tl.constexpr,
    MASK: tl.constexpr,
    PERIOD: tl.constexpr,
    Q: tl.constexpr,
    BN: tl.constexpr,
):
    i_b, i_n, live, i_m, M = place(B, N, BN)
    i_q = tl.arange(0, Q)[:, None]
    a, b = load(scale, i_n, live), load(shift, i_n, live)
    k0, k1, k2, k3 = _load4(c0, c1, c2, c3, i_n, live)
    v, w = load(v0, i_m, live), load(w0, i_m, live)
    if v0 is None:
        v = tl.zeros([BN], tl.float32) + rest
        if w_end is not None:
            w = tl.zeros([BN], tl.float32)
    if MASK != "step":
        kept = _kept(seed, p_drop, 0, i_b, i_n, B, N, MASK, Q)
    ahead = load_steps(x, i_q, i_m, live, T, M)
    for t in range(0, T, Q):
        i_t = t + i_q
        z = ahead.to(tl.float32)
        ahead = load_steps(x, i_t + Q, i_m, live, T, M)  # while this chunk is walked
        if scale is not None:
            z = z * a + b
        if MASK == "step":
            kept = _kept(seed, p_drop, t, i_b, i_n, B, N, MASK, Q)
        fired = tl.zeros([BN], tl.int32)
        for q in tl.static_range(Q):
            here = i_n < tl.where(t + q < T, N, 0)  # none after the last step
            if checkpoints is not None and q % PERIOD == 0:
                tl.store(checkpoints + i_m, v, here)
                checkpoints += M
                if w_end is not None:
                    tl.store(checkpoints + i_m, w, here)
                    checkpoints += M
            h = CHARGE(row(z, i_q, q), v, w, k0, k1, k2, k3, rest)
            f = ((h - v_threshold >= 0.0) & here).to(tl.float32)
            h = reset(h, f, v_threshold, rest, RESET)
            v = tl.where(here, h, v)
            if w_end is not None:
                w = tl.where(here, SETTLE(row(z, i_q, q), h, f, w, k0, k1, k2, k3), w)
            fired |= f.to(tl.int32) << q
            if s is not None:
                out = tl.where((kept >> q) & 1 != 0, f * factor, 0.0)
                tl.store(s + i_m, out.to(s.dtype.element_ty), here)
                s += M
            if u is not None:
                tl.store(u + i_m, v, here)
                u += M
        _store_fired(bits, fired, i_t, i_b, i_n, T, B, N, Q, BN)
    tl.store(v_end + i_m, v.to(v_end.dtype.element_ty), live)
    if w_end is not None:
        tl.store(w_end + i_m, w.to(w_end.dtype.element_ty), live)


@triton.jit
def _load_fired(bits, t, i_b, i_n, T, B, N, Q: tl.constexpr):
    """Packed flags of the recorded spikes, steps t to t + Q."""
    W = tl.cdiv(N, 32)
    bits += (tl.cast(t, tl.int64) * B + i_b) * W + i_n // 32
    fired = tl.zeros(i_n.shape, tl.int32)
    for q in tl.static_range(Q):
        word = tl.load(bits, i_n < tl.where(t + q < T, N, 0), other=0)
        fired |= ((word >> (i_n % 32)) & 1) << q
        bits += tl.cast(B, tl.int64) * W
    return fired


@triton.jit
def step_adjoint(
    gv,  # gradients of the state after the step and of the spike
    gw,
    gs,
    z,  # what the step saw
    v,
    w,
    f,
    k0,
    k1,
    k2,
    k3,
    v_threshold,
    rest,
    alpha,
    CHARGE: tl.constexpr,
    CHARGE_ADJOINT: tl.constexpr,
    SETTLE_ADJOINT: tl.constexpr,
    SLOPE: tl.constexpr,
    RESET: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    DETACH_STATE: tl.constexpr,
):
    """Gradients of z, of the state before the step and of the coefficients."""
    h = CHARGE(z, v, w, k0, k1, k2, k3, rest)
    gz_w, e0, e1, e2, e3 = 0.0, 0.0, 0.0, 0.0, 0.0
    if SETTLE_ADJOINT is not None:
        v_after = reset(h, f, v_threshold, rest, RESET)
        gz_w, gv_w, gs_w, gw, e0, e1, e2, e3 = SETTLE_ADJOINT(gw, z, v_after, f, w, k0, k1, k2, k3)
        gv, gs = gv + gv_w, gs + gs_w
    if not DETACH_RESET:
        if RESET == "hard":
            gs += gv * (rest - h)
        elif RESET == "soft":
            gs -= gv * v_threshold
    if RESET == "hard":
        gv = tl.where(f > 0.0, 0.0, gv)
    gh = gv + gs * SLOPE(h - v_threshold, alpha)
    gz, gv, gw_h, d0, d1, d2, d3 = CHARGE_ADJOINT(gh, z, v, w, k0, k1, k2, k3, rest)
    gw += gw_h
    if SETTLE_ADJOINT is not None:
        gz += gz_w
    if DETACH_STATE:
        gv, gw = tl.zeros_like(gh), tl.zeros_like(gh)
    return gz, gv, gw, d0 + e0, d1 + e1, d2 + e2, d3 + e3


@triton.jit(do_not_specialize=["T", "B", "N"])
def lif_bwd_kernel(
    ds,  # gradient of the spikes after dropout, (T, B, N)
    dv_end,  # gradient of the state after the last step, (B, N), or None for 0
    dw_end,
    du,  # gradient of the potential after each step, (T, B, N), or None for 0
    x,  # from here to seed: what the forward kernel read and recorded
    scale,
    shift,
    checkpoints,
    bits,
    c0,
    c1,
    c2,
    c3,
    seed,
    dx,  # out: (T, B, N)
    dv0,  # out: (B, N), or None
    dw0,
    partials,  # out: gradients of every sample (scale, shift, c0..: those wanted), (n, B, N) f32
    v_threshold,
    rest,
    alpha,
    p_drop,
    factor,
    T,
    B,
    N,
    CHARGE: tl.constexpr,
    CHARGE_ADJOINT: tl.constexpr,
    SETTLE: tl.constexpr,
    SETTLE_ADJOINT: tl.constexpr,
    SLOPE: tl.constexpr,
    RESET: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    DETACH_STATE: tl.constexpr,
    MASK: tl.constexpr,
    CONSTANTS: tl.constexpr,  # whether the gradients of the coefficients are wanted
    Q: tl.constexpr,
    BN: tl.constexpr,
):
    i_b, i_n, live, i_m, M = place(B, N, BN)
    i_q = tl.arange(0, Q)[:, None]
    a, b = load(scale, i_n, live), load(shift, i_n, live)
    k0, k1, k2, k3 = _load4(c0, c1, c2, c3, i_n, live)
    gv_end, gw_end = load(dv_end, i_m, live), load(dw_end, i_m, live)
    gv = tl.zeros([BN], tl.float32)
    gw, ga, gb, g0, g1, g2, g3 = gv, gv, gv, gv, gv, gv, gv
    if MASK != "step":
        kept = _kept(seed, p_drop, 0, i_b, i_n, B, N, MASK, Q)
    for t in range((tl.cdiv(T, Q) - 1) * Q, -1, -Q):
        i_t = t + i_q
        xs = load_steps(x, i_t, i_m, live, T, M).to(tl.float32)
        gs_q = load_steps(ds, i_t, i_m, live, T, M).to(tl.float32)
        if du is not None:
            gu_q = load_steps(du, i_t, i_m, live, T, M).to(tl.float32)
        fired = _load_fired(bits, t, i_b, i_n, T, B, N, Q)
        if MASK == "step":
            kept = _kept(seed, p_drop, t, i_b, i_n, B, N, MASK, Q)
        state = tl.cast(t // Q, tl.int64) * M
        if SETTLE is None:
            v, w = load(checkpoints, state + i_m, live), 0.0
        else:
            v = load(checkpoints, 2 * state + i_m, live)
            w = load(checkpoints, 2 * state + M + i_m, live)
        vs = tl.zeros([Q, BN], tl.float32)  # the states before each step
        ws = vs
        for q in tl.static_range(Q):
            f = ((fired >> q) & 1).to(tl.float32)
            vs = tl.where(i_q == q, v[None, :], vs)
            z = row(xs, i_q, q) * a + b if scale is not None else row(xs, i_q, q)
            v = reset(CHARGE(z, v, w, k0, k1, k2, k3, rest), f, v_threshold, rest, RESET)
            if SETTLE is not None:
                ws = tl.where(i_q == q, w[None, :], ws)
                w = SETTLE(z, v, f, w, k0, k1, k2, k3)
        p_dx = dx + tl.cast(t + Q, tl.int64) * M + i_m
        for q in tl.static_range(Q - 1, -1, -1):
            x_t, v = row(xs, i_q, q), row(vs, i_q, q)
            z = x_t * a + b if scale is not None else x_t
            w = row(ws, i_q, q) if SETTLE is not None else 0.0
            f = ((fired >> q) & 1).to(tl.float32)
            gs = tl.where((kept >> q) & 1 != 0, row(gs_q, i_q, q) * factor, 0.0)
            # the end's gradient enters at step T - 1; the steps after it see zeros
            if dv_end is not None:
                gv = tl.where(t + q == T - 1, gv_end, gv)
            if dw_end is not None:
                gw = tl.where(t + q == T - 1, gw_end, gw)
            if du is not None:
                gv += row(gu_q, i_q, q)
            gz, gv, gw, d0, d1, d2, d3 = step_adjoint(
                *(gv, gw, gs, z, v, w, f, k0, k1, k2, k3, v_threshold, rest, alpha),
                *(CHARGE, CHARGE_ADJOINT, SETTLE_ADJOINT, SLOPE, RESET, DETACH_RESET, DETACH_STATE),
            )
            g0, g1, g2, g3 = g0 + d0, g1 + d1, g2 + d2, g3 + d3
            ga, gb = ga + gz * x_t, gb + gz
            p_dx -= M
            gx = gz * a if scale is not None else gz
            here = i_n < tl.where(t + q < T, N, 0)
            tl.store(p_dx, gx.to(dx.dtype.element_ty), here)
    if dv0 is not None:
        tl.store(dv0 + i_m, gv.to(dv0.dtype.element_ty), live)
    if dw0 is not None:
        tl.store(dw0 + i_m, gw.to(dw0.dtype.element_ty), live)
    if scale is not None:
        tl.store(partials + i_m, ga, live)
        tl.store(partials + M + i_m, gb, live)
        partials += 2 * M
    if CONSTANTS and c0 is not None:
        tl.store(partials + i_m, g0, live)
    if CONSTANTS and c1 is not None:
        tl.store(partials + M + i_m, g1, live)
    if CONSTANTS and c2 is not None:
        tl.store(partials + 2 * M + i_m, g2, live)
    if CONSTANTS and c3 is not None:
        tl.store(partials + 3 * M + i_m, g3, live)
