"""Kernels of the delay convolution; ``delay`` says what they compute and what it costs.

Legend: R rows m = t * B + b, T input steps, S output steps, B batch, C input channels, N neurons,
K taps, E elements per synapse, O outputs and I inputs of one direction of the convolution, P parts
of an operand, G partial sums. Prefixes: b_ block value, p_ pointer, m_ mask, i_ index.
Tap i delays by K - 1 - i steps. Addresses of ``planes`` and ``coef`` are multiples of 16 elements.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# (the body of a jit function is Triton's language)
import triton
import triton.language as tl

from ..dispatch import INTERPRETED

INTERPRETER: tl.constexpr = tl.constexpr(INTERPRETED)
BILINEAR: tl.constexpr = tl.constexpr(0)
GAUSS: tl.constexpr = tl.constexpr(2)

# -- arithmetic shared by the kernels ---


@triton.jit
def _round(b_x):
    # float32 to 8 significant bits by integer arithmetic: the unit that converts one value at a
    # time is the one that evaluates exp2
    return ((b_x.to(tl.uint32, bitcast=True) + 0x8000) & 0xFFFF0000).to(tl.float32, bitcast=True)


@triton.jit
def _bf16(b_x):
    return (_round(b_x) if INTERPRETER else b_x).to(tl.bfloat16)  # the interpreter truncates


@triton.jit
def _dot(b_l, b_r, b_acc):
    if INTERPRETER:  # it would multiply the bit patterns of bfloat16 as integers
        return tl.dot(b_l.to(tl.float32), b_r.to(tl.float32), b_acc)
    return tl.dot(b_l, b_r, b_acc)


@triton.jit
def _scale(b_sigma, KIND: tl.constexpr):
    if KIND == GAUSS:
        return 0.8493218003 / (tl.abs(b_sigma) + 0.27)  # sqrt(log2(e) / 2) / width
    return tl.abs(b_sigma) + 1.0


@triton.jit
def _tap(b_d, b_s, KIND: tl.constexpr):
    """Tap at distance b_d from the centre, not normalised, scale b_s."""
    if KIND == GAUSS:
        b_u = b_d * b_s
        return tl.exp2(-b_u * b_u)
    return tl.maximum(b_s - tl.abs(b_d), 0.0)


@triton.jit
def _basis(i, b_p, b_s, KIND: tl.constexpr):
    """Tap at offset i from the middle and what its derivatives in P and SIG are multiples of."""
    b_d = i - b_p
    b_g = _tap(b_d, b_s, KIND)
    if KIND == GAUSS:
        return b_g, b_g * b_d, b_g * b_d * b_d
    if KIND == BILINEAR:
        b_floor = tl.floor(b_p)
        b_slope = tl.where(i == b_floor, -1.0, tl.where(i == b_floor + 1, 1.0, 0.0))
        return b_g, b_slope, b_slope * 0.0
    b_inside = tl.where(b_g > 0, 1.0, 0.0)
    return b_g, tl.where(b_d == 0, 0.0, tl.where(b_d > 0, b_inside, -b_inside)), b_inside


@triton.jit
def store_parts(b_x, p_out, mask, plane, P: tl.constexpr):
    """Writes the parts of b_x, a plane each; returns how many are not zero, by element."""
    b_used = tl.zeros(b_x.shape, tl.int32)
    for j in tl.static_range(P):
        b_h = _bf16(b_x)
        tl.store(p_out, b_h, mask)
        b_x -= b_h.to(tl.float32)
        b_used = tl.where(b_h.to(tl.float32) != 0, j + 1, b_used)
        p_out += plane
    return b_used


@triton.jit
def _most(used, n):
    """Largest of n numbers >= 0: every program reads what each of another kernel's wrote."""
    b_most = tl.zeros([128], tl.int32)
    for first in range(0, n, 128):
        i = first + tl.arange(0, 128)
        b_most = tl.maximum(b_most, tl.load(used + i, i < n, other=0))
    return tl.max(b_most, 0)


# -- kernels ---


@triton.jit(do_not_specialize=["R"])
def delay_split_kernel(
    x,  # values, (R, C)
    planes,  # out: their parts, (P, R, pitch) bfloat16
    used,  # out: how many parts are not all zero, (programs,) int32, or None
    R,
    C,
    pitch,
    P: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    i_r = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)
    b_used = tl.zeros([BR, BC], tl.int32)
    for c in range(0, pitch, BC):
        i_c = c + tl.arange(0, BC)
        mask = (i_r < R)[:, None] & (i_c < C)[None, :]
        b_x = tl.load(x + i_r[:, None] * C + i_c[None, :], mask, other=0.0).to(tl.float32)
        p_out = planes + i_r[:, None] * pitch + i_c[None, :]
        mask = (i_r < R)[:, None] & (i_c < pitch)[None, :]
        b_used = tl.maximum(b_used, store_parts(b_x, p_out, mask, R.to(tl.int64) * pitch, P))
    if used is not None:
        tl.store(used + tl.program_id(0), tl.max(tl.max(b_used, 1), 0))


@triton.jit
def delay_coef_kernel(
    w,  # weights, (E, O, I) through stride_e, stride_o, stride_i
    p,  # positions, the same
    sigma,  # width parameter, the same, or one value if SHARED
    coef,  # out: p, w over the sum of the taps, scale unless SHARED, (3, E, pitch_o, pitch_i)
    K,
    O,
    I,
    stride_e,
    stride_o,
    stride_i,
    pitch_o,
    pitch_i,
    n,  # E * pitch_o * pitch_i
    KIND: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i_o, i_i = i // pitch_i % pitch_o, i % pitch_i
    at = i // pitch_i // pitch_o * stride_e + i_o * stride_o + i_i * stride_i
    mask = (i < n) & (i_o < O) & (i_i < I)
    b_w = tl.load(w + at, mask, other=0.0)
    b_p = tl.load(p + at, mask, other=0.0)
    if SHARED:
        b_s = _scale(tl.load(sigma), KIND)
    else:
        b_s = _scale(tl.load(sigma + at, mask, other=0.0), KIND)
        tl.store(coef + 2 * n + i, b_s, i < n)
    if KIND != BILINEAR:
        b_sum = tl.zeros([BLOCK], tl.float32)
        for k in range(K):
            b_sum += _tap((k - K // 2).to(tl.float32) - b_p, b_s, KIND)
        b_w /= b_sum + 1e-7
    tl.store(coef + i, b_p, i < n)
    tl.store(coef + n + i, b_w, i < n)


@triton.jit(do_not_specialize=["n_used", "B", "T_in", "T_out"])
def delay_conv_kernel(
    x,  # parts of the input, (XP, T_in * B, pitch) bfloat16
    used,  # how many parts of some rows each are not all zero, (n_used,) int32; None: all are used
    coef,  # what delay_coef_kernel writes
    sigma,  # width parameter if SHARED, (1,)
    y,  # out: (T_out * B, O)
    stats,  # out: mean and sum of squared deviations of a block of rows, (G, 2, O)
    n_used,
    B,
    T_in,
    T_out,
    K,
    O,
    pitch_o,
    pitch_i,  # in units of 16
    pitch,  # in units of 16
    E,
    SIGN: tl.constexpr,  # -1: output t sees input t - d, the forward pass; +1: t + d, its transpose
    KIND: tl.constexpr,
    SHARED: tl.constexpr,
    P: tl.constexpr,
    XP: tl.constexpr,
    RESTART: tl.constexpr,  # sums leave the tensor core after every block of channels
    STATS: tl.constexpr,
    BO: tl.constexpr,
    BI: tl.constexpr,
    BM: tl.constexpr,
):
    pitch_i *= 16
    pitch *= 16
    blocks_o = tl.cdiv(O, BO)
    first = tl.program_id(0) // blocks_o * BM
    i_m = first + tl.arange(0, BM)
    i_o = tl.program_id(0) % blocks_o * BO + tl.arange(0, BO)
    rows_in, rows_out = T_in * B, T_out * B
    if SIGN < 0:  # only delays that reach an input step from one of this block's steps
        d_first = tl.maximum(0, first // B - T_in + 1)
        d_last = tl.minimum(K, (tl.minimum(first + BM, rows_out) - 1) // B + 1)
    else:
        d_first = 0
        d_last = tl.minimum(K, T_in - first // B)
    step = SIGN * B
    plane = E * pitch_o * pitch_i
    blocks_i = pitch_i // BI
    parts = XP if used is None else _most(used, n_used)
    b_y = tl.zeros([BO, BM], tl.float32)
    for j in tl.static_range(XP):
        blocks = E * blocks_i
        if j > 0 and used is not None:
            blocks = tl.where(parts > j, blocks, 0)
        for block in range(blocks):
            i_i = block % blocks_i * BI + tl.arange(0, BI)
            i_eo = block // blocks_i * pitch_o + i_o
            p_coef = coef + i_eo[:, None] * pitch_i + i_i[None, :]
            p_coef = tl.multiple_of(p_coef, (1, 16))  # bytes
            b_p = tl.load(p_coef)
            b_w = tl.load(p_coef + plane)
            b_s = _scale(tl.load(sigma), KIND) if SHARED else tl.load(p_coef + 2 * plane)
            # adds zero, and thereby puts the taps into the registers in which a tensor core leaves
            # its results: those it also takes its left operand from, so no tap is moved again
            b_p = _dot(tl.zeros([BO, 16], tl.bfloat16), tl.zeros([16, BI], tl.bfloat16), b_p)
            row = first + d_first * step  # of the input, for the first row of the output
            p_x = x + (rows_in.to(tl.int64) * j + row) * pitch
            o_x = tl.arange(0, BM)[None, :] * pitch + i_i[:, None]
            b_sum = tl.zeros([BO, BM], tl.float32) if RESTART else b_y
            for d in range(d_first, d_last):
                m_row = (i_m >= first - row) & (i_m < tl.minimum(first - row + rows_in, rows_out))
                m_x = m_row[None, :] & (i_i < pitch)[:, None]
                b_x = tl.load(tl.multiple_of(p_x + o_x, (16, 1)), m_x, other=0.0)
                b_k = _tap((K - 1 - d - K // 2).to(tl.float32) - b_p, b_s, KIND) * b_w
                for q in tl.static_range(P - j):
                    b_part = b_k if q == P - j - 1 else _round(b_k)
                    b_sum = _dot(_bf16(b_part), b_x, b_sum)
                    b_k -= b_part
                p_x += step.to(tl.int64) * pitch
                row += step
            b_y = b_y + b_sum if RESTART else b_sum
    if STATS:  # rows past the end are zero
        count = tl.minimum(BM, rows_out - first)
        b_mean = tl.sum(b_y, 1) / count.to(tl.float32)
        b_dev = tl.where((i_m < rows_out)[None, :], b_y - b_mean[:, None], 0.0)
        p_stats = stats + tl.program_id(0) // blocks_o * 2 * O + i_o
        tl.store(p_stats, b_mean, i_o < O)
        tl.store(p_stats + O, tl.sum(b_dev * b_dev, 1), i_o < O)
    b_halves = tl.split(tl.reshape(b_y, [BO, BM // 2, 2]))
    p_y = y + first.to(tl.int64) * O
    for h in tl.static_range(2):  # even rows, then odd rows: turning the tile takes fewer registers
        i_m = 2 * tl.arange(0, BM // 2) + h
        m_y = (i_o < O)[:, None] & (i_m < rows_out - first)[None, :]
        o_y = i_m[None, :] * O + i_o[:, None]
        tl.store(p_y + o_y, b_halves[h].to(y.dtype.element_ty), m_y)


@triton.jit(do_not_specialize=["n_used", "B", "T", "S", "rows"])
def delay_dw_kernel(
    dy,  # parts of the output's gradient, (YP, S * B, pitch_n) bfloat16
    x,  # parts of the input, (XP, T * B, pitch_c) bfloat16
    used,  # how many parts of some rows of x are not all zero, (n_used,) int32; None: all are used
    p,  # positions, (E, N, C)
    sigma,  # width parameter, (E, N, C), or one value if SHARED
    part,  # out: moments of the taps' gradient, (G, MOMENTS, E, N, C), G = chunks x groups of taps
    n_used,
    B,
    T,
    S,
    K,
    N,
    C,
    pitch_n,  # in units of 16
    pitch_c,  # in units of 16
    E,
    rows,  # rows of dy per chunk
    KIND: tl.constexpr,
    SHARED: tl.constexpr,
    MOMENTS: tl.constexpr,  # 3 if SIG needs a gradient, else 2
    P: tl.constexpr,
    XP: tl.constexpr,
    YP: tl.constexpr,
    RESTART: tl.constexpr,  # rows after which the sums leave the tensor core, 0: never
    BN: tl.constexpr,
    BC: tl.constexpr,
    TAPS: tl.constexpr,
    BM: tl.constexpr,
):
    pitch_n *= 16
    pitch_c *= 16
    blocks_c = tl.cdiv(C, BC)
    i_n = tl.program_id(0) // blocks_c * BN + tl.arange(0, BN)
    # columns are pairs of a tap and a channel, so that a row of dy serves several taps
    j_k = tl.arange(0, TAPS * BC)
    i_c = tl.program_id(0) % blocks_c * BC + j_k % BC
    first_d = tl.program_id(1) * TAPS
    i_d = first_d + j_k // BC
    rows_in = T * B
    lo = tl.maximum(tl.program_id(2) * rows, first_d * B)
    hi = tl.minimum((tl.program_id(2) + 1) * rows, S * B)
    hi = tl.minimum(hi, rows_in + (tl.minimum(first_d + TAPS, K) - 1) * B)
    parts = XP if used is None else _most(used, n_used)
    b_dk = tl.zeros([BN, TAPS * BC], tl.float32)
    for j in tl.static_range(XP):
        end = hi
        if j > 0 and used is not None:
            end = tl.where(parts > j, hi, lo)
        length = RESTART if RESTART else tl.maximum(end - lo, 1)
        for start in range(lo, end, length):
            b_sum = tl.zeros([BN, TAPS * BC], tl.float32) if RESTART else b_dk
            for m in range(start, tl.minimum(start + length, end), BM):
                i_m = m + tl.arange(0, BM)
                i_row = i_m[:, None] - i_d[None, :] * B
                m_x = (i_row >= 0) & (i_row < rows_in) & (i_c < pitch_c)[None, :]
                p_x = x + (i_row + rows_in.to(tl.int64) * j) * pitch_c + i_c[None, :]
                b_x = tl.load(tl.multiple_of(p_x, (1, 16)), m_x & (i_d < K)[None, :], other=0.0)
                p_dy = dy + i_m.to(tl.int64)[None, :] * pitch_n + i_n[:, None]
                for _ in tl.static_range(min(YP, P - j)):
                    m_dy = (i_m < hi)[None, :] & (i_n < pitch_n)[:, None]
                    b_dy = tl.load(tl.multiple_of(p_dy, (16, 1)), m_dy, other=0.0)
                    b_sum = _dot(b_dy, b_x, b_sum)
                    p_dy += (S * B).to(tl.int64) * pitch_n
            b_dk = b_dk + b_sum if RESTART else b_sum
    # the halves of even and odd channels are reduced one after the other, to spare registers
    b_halves = tl.split(tl.reshape(b_dk, [BN, TAPS, BC // 2, 2]))
    i_tap = (K - 1 - K // 2 - first_d - tl.arange(0, TAPS)).to(tl.float32)[None, :, None]
    group = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    for h in tl.static_range(2):
        i_c = tl.program_id(0) % blocks_c * BC + 2 * tl.arange(0, BC // 2) + h
        i_nc = i_n[:, None] * C + i_c[None, :]
        m_nc = (i_n < N)[:, None] & (i_c < C)[None, :]
        p_part = part + group.to(tl.int64) * (MOMENTS * E * N * C) + i_nc
        for e in range(E):
            b_p = tl.load(p + e * N * C + i_nc, m_nc, other=0.0)[:, None, :]
            if SHARED:
                b_s = _scale(tl.load(sigma), KIND)
            else:
                b_s = tl.load(sigma + e * N * C + i_nc, m_nc, other=0.0)
                b_s = _scale(b_s, KIND)[:, None, :]
            b_basis = _basis(i_tap, b_p, b_s, KIND)
            for q in tl.static_range(MOMENTS):
                tl.store(p_part + (q * E + e) * N * C, tl.sum(b_halves[h] * b_basis[q], 1), m_nc)


@triton.jit
def delay_dw_sum_kernel(
    part,  # moments, (G, MOMENTS, n)
    w,  # weights, (n,), n = E * N * C
    p,  # positions, (n,)
    sigma,  # width parameter, (n,), or one value if SHARED
    dw,  # out: (n,)
    dp,  # out: (n,)
    dsigma,  # out: (n,), None without it
    G,
    K,
    n,
    KIND: tl.constexpr,
    SHARED: tl.constexpr,
    MOMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    b_0 = tl.zeros([BLOCK], tl.float32)
    b_1, b_2 = b_0, b_0
    p_part = part + i
    for _ in range(G):
        b_0 += tl.load(p_part, mask, other=0.0)
        b_1 += tl.load(p_part + n, mask, other=0.0)
        if MOMENTS == 3:
            b_2 += tl.load(p_part + 2 * n, mask, other=0.0)
        p_part += MOMENTS * n
    b_w = tl.load(w + i, mask, other=0.0)
    b_p = tl.load(p + i, mask, other=0.0)
    b_sigma = tl.load(sigma) if SHARED else tl.load(sigma + i, mask, other=0.0)
    if KIND != BILINEAR:  # through the sum of the taps that each of them is divided by
        b_s = _scale(b_sigma, KIND)
        b_sum = tl.full([BLOCK], 1e-7, tl.float32)
        b_sum_1, b_sum_2 = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
        for k in range(K):
            b_g, b_g1, b_g2 = _basis((k - K // 2).to(tl.float32), b_p, b_s, KIND)
            b_sum += b_g
            b_sum_1 += b_g1
            b_sum_2 += b_g2
        b_0 /= b_sum
        b_1 = (b_1 - b_sum_1 * b_0) / b_sum
        b_2 = (b_2 - b_sum_2 * b_0) / b_sum
    if KIND == GAUSS:
        b_width = tl.abs(b_sigma) + 0.27
        b_1 /= b_width * b_width
        b_2 /= b_width * b_width * b_width
    tl.store(dw + i, b_0, mask)
    tl.store(dp + i, b_w * b_1, mask)
    if MOMENTS == 3:
        b_sign = tl.where(b_sigma > 0, 1.0, tl.where(b_sigma < 0, -1.0, 0.0))
        tl.store(dsigma + i, b_w * b_2 * b_sign, mask)
