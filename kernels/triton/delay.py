"""The delay convolution on a GPU: taps are built in registers and never reach memory.

Rows are flattened, ``m = t * B + b``, so a delay of d steps is a shift of ``d * B`` rows and the
layer is ``y[m, n] = sum over d, c of k[n, c, d] x[m - d * B, c]``: K matrix products with the same
rows, shifted. The input gradient swaps n and c and reverses the shift, so one kernel serves both.
A program of the weight gradient forms ``dk[n, c, d] = sum over m of dy[m, n] x[m - d * B, c]`` for
a few taps and reduces it at once to the three moments that dW, dP and dSIG are made of.

Precision. Tensor cores multiply bfloat16 and add in float32. Operands are cut into parts of 8
significant bits (3 of them are float32 exactly), and products of parts i + j < P are added:

| precision | P | taps, dy | x                            | error of y, gradients | tensor cores |
|-----------|---|----------|------------------------------|-----------------------|--------------|
| highest   | 3 | 24 bits  | 24 bits                      | 1e-7, 2e-7            | 2e-6         |
| default   | 2 | 16 bits  | 8 bits: exact for spikes and | 2e-6, 4e-6            | 2e-5         |
|           |   |          | counts to 256, else 2e-3     |                       |              |
| fast      | 1 | 8 bits   | 8 bits                       | 1e-3, 2e-3            | 3e-3         |

Errors are relative L2 against float64, measured in the interpreter, which rounds sums to nearest.
Tensor cores truncate each of K C / 16 P additions towards zero; the last column comes from a
simulation of that on the CPU (256 channels, 25 taps, counts), not from a GPU, and is why
``highest`` restarts its sums every 16 channels (512 rows in the weight gradient) and adds them up
outside. How many parts of x are not all zero is found on the device: spikes in float32 cost P
products instead of P (P + 1) / 2, and nothing waits for the host.

Account, counted and not measured: 256 neurons, 256 channels, 25 taps, T 112, batch 256 on an H200.
One part is 94 GFLOP, 0.12 ms at 790 TFLOP/s. One tap of a tile of 64 x 16 x 256 at ``default``
takes 256 clocks of tensor core, 64 of the special-function units (one exp2 per tap and synapse),
158 instructions of each scheduler and 8 kB of rows from L2 (32 bytes per clock of about 38). Two
programs share a processor, so one builds taps while the other multiplies; taps are the left
operand, in registers (no shared memory), rows of x the right one. The SHD preset at batch 256 then
multiplies 0.34 TFLOP forward and 0.78 backward at ``default`` (0.43 + 1.0 ms), 0.17 + 0.34 at
``fast`` (0.2 + 0.4 ms), padding included, against a floor of 0.56 ms for one exact product each.

exp2 is evaluated for each tap instead of the recurrence g[k+1] = g[k] r[k]: that would start in a
tail that underflows for small SIG, its error grows as K^2 (1e-5 at K 25), and the special-function
units have time.

Two elements per synapse (E = 2) cost twice the products forward, none in the weight gradient.
Taps that are negligible late in training are not skipped.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
Suffixes name the axes. Tap i delays by K - 1 - i steps.
"""

import torch
from torch import Tensor
from torch.library import custom_op

from ...errors import BackendError
from ..synapses import Synapses
from .delay_launch import PARTS, conv, split, weight_gradient

# -- registered ops and their autograd ---


@custom_op("snndelay::triton_delay_fwd", mutates_args=())
def _delay_fwd(
    x: Tensor,
    w: Tensor,
    p: Tensor,
    sigma: Tensor,
    K: int,
    version: str,
    extra_steps: int,
    precision: str,
    stats: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    planes, used = split(x, 3 if precision == "highest" else 1)
    shape = (x.shape[0] + extra_steps, x.shape[1])
    synapses = Synapses(w, p, sigma, K, version)
    return conv(planes, used, synapses, shape, -1, precision, x.dtype, stats)


@custom_op("snndelay::triton_delay_split", mutates_args=())
def _delay_split(
    dy: Tensor,
    y: Tensor | None,
    mean: Tensor | None,
    dmean: Tensor | None,
    dvar: Tensor | None,
    parts: int,
) -> tuple[Tensor, Tensor]:
    affine = None
    if y is not None and mean is not None and dmean is not None and dvar is not None:
        # dy + dmean / rows + dvar 2 (y - mean) / rows, formed as it is read
        rows = dy.shape[0] * dy.shape[1]
        scale = dvar * (2 / rows)
        affine = (y, scale, dmean / rows - scale * mean)
    planes, used = split(dy, parts, affine)
    if used is None:  # an op may not return a view of its input
        return planes.clone(), planes.new_ones(1, dtype=torch.int32)
    return planes, used


@custom_op("snndelay::triton_delay_dx", mutates_args=())
def _delay_dx(
    dy: Tensor,
    used: Tensor,
    w: Tensor,
    p: Tensor,
    sigma: Tensor,
    K: int,
    version: str,
    T: int,
    B: int,
    precision: str,
    dtype: torch.dtype,
) -> Tensor:
    synapses = Synapses(w, p, sigma, K, version)
    return conv(dy, used if dy.shape[0] > 1 else None, synapses, (T, B), 1, precision, dtype)[0]


@custom_op("snndelay::triton_delay_dw", mutates_args=())
def _delay_dw(
    dy: Tensor,
    x: Tensor,
    w: Tensor,
    p: Tensor,
    sigma: Tensor,
    K: int,
    version: str,
    precision: str,
    with_sigma: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return weight_gradient(dy, x, Synapses(w, p, sigma, K, version), precision, with_sigma)


@_delay_fwd.register_fake
def _(x, w, p, sigma, K, version, extra_steps, precision, stats):
    N = w.shape[1]
    y = x.new_empty((x.shape[0] + extra_steps, x.shape[1], N))
    return y, *(w.new_empty(N if stats else 0) for _ in range(2))


@_delay_split.register_fake
def _(dy, y, mean, dmean, dvar, parts):
    if y is None:
        parts = min(parts, {torch.bfloat16: 1, torch.float16: 2}.get(dy.dtype, 3))
    planes = (parts, dy.shape[0] * dy.shape[1], (dy.shape[2] + 15) // 16 * 16)
    return dy.new_empty(planes, dtype=torch.bfloat16), dy.new_empty(1, dtype=torch.int32)


@_delay_dx.register_fake
def _(dy, used, w, p, sigma, K, version, T, B, precision, dtype):
    return dy.new_empty((T, B, w.shape[2]), dtype=dtype)


@_delay_dw.register_fake
def _(dy, x, w, p, sigma, K, version, precision, with_sigma):
    dsigma = torch.empty_like(w) if with_sigma else w.new_empty(0)
    return torch.empty_like(w), torch.empty_like(w), dsigma


def _setup_context(ctx, inputs, output):
    x, w, p, sigma, ctx.K, ctx.version, _, ctx.precision, ctx.stats = inputs
    y, mean, _ = output
    ctx.save_for_backward(x, w, p, sigma, *((y, mean) if ctx.stats else (None, None)))


def _backward(ctx, dy, dmean, dvar):
    x, *synapses, y, mean = ctx.saved_tensors
    # dy is cut into parts once, for both gradients
    if not ctx.stats:
        dmean = dvar = None
    planes, used = _delay_split(dy, y, mean, dmean, dvar, PARTS[ctx.precision])
    need_x, *need_w, need_sigma = ctx.needs_input_grad[:4]
    dx = dw = dp = dsigma = None
    if need_x:
        args = (*synapses, ctx.K, ctx.version, *x.shape[:2], ctx.precision, x.dtype)
        dx = _delay_dx(planes, used, *args)
    if need_sigma or any(need_w):
        args = (*synapses, ctx.K, ctx.version, ctx.precision, need_sigma)
        dw, dp, dsigma = _delay_dw(planes, x, *args)
        if need_sigma and synapses[2].numel() == 1:  # shared: the kernel's is per synapse
            dsigma = dsigma.sum().view(synapses[2].shape)
    return dx, dw, dp, dsigma if need_sigma else None, *(None,) * 5


_delay_fwd.register_autograd(_backward, setup_context=_setup_context)

# -- public ---


def _run(
    x_TBC: Tensor, synapses: Synapses, extra_steps: int, precision: str, stats: bool
) -> tuple[Tensor, Tensor, Tensor]:
    w, p, sigma, K, version = synapses
    if x_TBC.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise BackendError(
            f"the triton delay takes float32, bfloat16 or float16, not {x_TBC.dtype}"
        )
    if precision not in PARTS:
        raise ValueError(f"precision must be one of {', '.join(PARTS)}, not {precision!r}")
    if sigma.numel() != 1 and sigma.shape != w.shape:
        raise ValueError(f"sigma must be () or {tuple(w.shape)}, not {tuple(sigma.shape)}")
    if version in ("v0", "v1"):
        sigma = w.new_zeros(())  # their width is 1
    w, p, sigma = (a.float().contiguous() for a in (w, p, sigma))
    return _delay_fwd(x_TBC, w, p, sigma, K, version, extra_steps, precision, stats)


def delay_linear(
    x_TBC: Tensor, synapses: Synapses, extra_steps: int = 0, precision: str = "highest"
) -> Tensor:
    """Synapses with weight and delay, see ``kernels.delay_linear``.

    Args:
        x_TBC: spikes, counts or any values, (T, B, C), float32, bfloat16 or float16.
        synapses: see ``Synapses``; computed in float32.
        extra_steps: how many steps the output outlasts the input, >= 0.
        precision: ``highest``, ``default`` or ``fast``; the module's docstring says what each
            costs and errs.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC``. Differentiable in x,
        weight, position and sigma.

    Raises:
        BackendError: another dtype. ValueError: unknown precision, or sigma of another shape.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """
    return _run(x_TBC, synapses, extra_steps, precision, False)[0]


def delay_linear_stats(
    x_TBC: Tensor, synapses: Synapses, extra_steps: int = 0, precision: str = "highest"
) -> tuple[Tensor, Tensor, Tensor]:
    """``delay_linear`` and the statistics of its output, computed before it is rounded.

    Args:
        x_TBC, synapses, extra_steps, precision: as ``delay_linear``.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC``; its mean and its biased
        variance over steps and samples, (N,) float32. All three are differentiable.

    Raises:
        BackendError, ValueError: as ``delay_linear``.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1.
    """
    return _run(x_TBC, synapses, extra_steps, precision, True)
