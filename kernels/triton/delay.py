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
from .delay_launch import PARTS, conv, split, split_input, weight_gradient
from .norm import norm_bwd, norm_fwd

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
) -> Tensor:
    planes, used = split_input(x, precision)
    shape = (x.shape[0] + extra_steps, x.shape[1])
    return conv(planes, used, Synapses(w, p, sigma, K, version), shape, -1, precision, x.dtype)[0]


@custom_op("snndelay::triton_delay_norm_fwd", mutates_args=())
def _delay_norm_fwd(
    x: Tensor,
    w: Tensor,
    p: Tensor,
    sigma: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    K: int,
    version: str,
    extra_steps: int,
    precision: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    planes, used = split_input(x, precision)
    shape = (x.shape[0] + extra_steps, x.shape[1])
    synapses = Synapses(w, p, sigma, K, version)
    y, partial, block = conv(planes, used, synapses, shape, -1, precision, x.dtype, True)
    assert partial is not None
    return y, *norm_fwd(partial, shape[0] * shape[1], block, gamma, beta, eps)


@custom_op("snndelay::triton_delay_bwd", mutates_args=())
def _delay_bwd(
    dy: Tensor,
    x: Tensor,
    w: Tensor,
    p: Tensor,
    sigma: Tensor,
    norm: list[Tensor | None],  # see norm_bwd; empty without
    K: int,
    version: str,
    precision: str,
    eps: float,
    need_x: bool,
    need_w: bool,
    need_sigma: bool,
) -> list[Tensor]:
    synapses, found = Synapses(w, p, sigma, K, version), []
    if norm:  # dy is cut into parts once, for both gradients
        planes, *found = norm_bwd(dy, norm, PARTS[precision], eps)
    else:
        planes, _ = split(dy, PARTS[precision])
    if need_x:
        found.append(conv(planes, None, synapses, x.shape[:2], 1, precision, x.dtype)[0])
    if need_w or need_sigma:
        dw, dp, dsigma = weight_gradient(planes, x, synapses, precision, need_sigma)
        found += [dw, dp]
        if need_sigma:  # where all share one, the kernel's is still per synapse
            found.append(dsigma.sum().view(sigma.shape) if sigma.numel() == 1 else dsigma)
    return found


@_delay_fwd.register_fake
def _(x, w, p, sigma, K, version, extra_steps, precision):
    return x.new_empty((x.shape[0] + extra_steps, x.shape[1], w.shape[1]))


@_delay_norm_fwd.register_fake
def _(x, w, p, sigma, gamma, beta, K, version, extra_steps, precision, eps):
    N = w.shape[1]
    y = x.new_empty((x.shape[0] + extra_steps, x.shape[1], N))
    return y, *(w.new_empty(N) for _ in range(4))


@_delay_bwd.register_fake
def _(dy, x, w, p, sigma, norm, K, version, precision, eps, need_x, need_w, need_sigma):
    found = [torch.empty_like(norm[1]) for _ in range(2)] if norm else []
    if need_x:
        found.append(x.new_empty(x.shape))
    if need_w or need_sigma:
        found += [torch.empty_like(w), torch.empty_like(w)]
    return [*found, torch.empty_like(sigma)] if need_sigma else found


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])
    ctx.K, ctx.version, _, ctx.precision = inputs[4:]


def _backward(ctx, dy):
    return *_gradients(ctx, dy, ctx.saved_tensors, [], 0.0), *(None,) * 4


def _setup_norm(ctx, inputs, output):
    *tensors, gamma, _, ctx.K, ctx.version, _, ctx.precision, ctx.eps = inputs
    ctx.save_for_backward(*tensors, *output[:3], gamma)
    ctx.set_materialize_grads(False)  # a training step differentiates no statistics


def _backward_norm(ctx, dy, *dnorm):
    *tensors, y, mean, var, gamma = ctx.saved_tensors
    dy = torch.zeros_like(y) if dy is None else dy
    norm = [y, mean, var, gamma, *dnorm]
    gradients = _gradients(ctx, dy, tensors, norm, ctx.eps)
    return *gradients, *(None,) * 5


def _gradients(ctx, dy, tensors, norm, eps) -> list:
    """One for each tensor of the forward pass, None where it is not needed."""
    need_x, *need_w, need_sigma = ctx.needs_input_grad[:4]
    need = (need_x, any(need_w), need_sigma)
    found = iter(_delay_bwd(dy, *tensors, norm, ctx.K, ctx.version, ctx.precision, eps, *need))
    affine = [next(found), next(found)] if norm else []
    dx = next(found) if need_x else None
    dw, dp = (next(found), next(found)) if any(need[1:]) else (None, None)
    dsigma = next(found) if need_sigma else None
    needs = ctx.needs_input_grad[4:]
    return [dx, dw, dp, dsigma, *(g if n else None for g, n in zip(affine, needs, strict=False))]


_delay_fwd.register_autograd(_backward, setup_context=_setup)
_delay_norm_fwd.register_autograd(_backward_norm, setup_context=_setup_norm)

# -- public ---


def _checked(x_TBC: Tensor, synapses: Synapses, precision: str) -> list[Tensor]:
    """The tensors of the synapses as the kernels take them."""
    w, p, sigma, _, version = synapses
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
    return [a.float().contiguous() for a in (w, p, sigma)]


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
    tensors = _checked(x_TBC, synapses, precision)
    return _delay_fwd(x_TBC, *tensors, synapses.K, synapses.version, extra_steps, precision)


def delay_linear_norm(
    x_TBC: Tensor,
    synapses: Synapses,
    gamma_N: Tensor | None,
    beta_N: Tensor | None,
    eps: float,
    extra_steps: int = 0,
    precision: str = "highest",
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``delay_linear`` and the normalisation of its output, whose statistics are computed before it
    is rounded.

    Args:
        x_TBC, synapses, extra_steps, precision: as ``delay_linear``.
        gamma_N, beta_N, eps: see ``reference.fold_norm``.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC``; its mean and its biased
        variance over steps and samples, and the scale and shift that normalise it, (N,) float32
        each. All five are differentiable.

    Raises:
        BackendError, ValueError: as ``delay_linear``.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1.
    """
    tensors = _checked(x_TBC, synapses, precision)
    affine = [a if a is None else a.float().contiguous() for a in (gamma_N, beta_N)]
    how = (synapses.K, synapses.version, extra_steps, precision, eps)
    return _delay_norm_fwd(x_TBC, *tensors, *affine, *how)
