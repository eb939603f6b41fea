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

from ...errors import BackendError
from ..registered import register, register_differentiable
from ..synapses import Synapses
from .delay_launch import (
    PARTS,
    conv,
    keeps_planes,
    planes_of,
    split,
    split_input,
    weight_gradient,
)
from .device import on_its_device
from .norm import norm_bwd, norm_fwd

# -- registered ops and their autograd ---

SYNAPSES = "Tensor w, Tensor p, Tensor sigma"


@on_its_device
def _run(x, w, p, sigma, K, version, extra_steps, precision):
    planes, used = split_input(x, precision)
    shape = (x.shape[0] + extra_steps, x.shape[1])
    synapses = Synapses(w, p, sigma, K, version)
    y = conv(planes, used, synapses, shape, -1, precision, x.dtype)[0]
    return y, planes if keeps_planes(x, precision) else planes.new_empty(0)


@on_its_device
def _run_norm(x, w, p, sigma, gamma, beta, K, version, extra_steps, precision, eps):
    planes, used = split_input(x, precision)
    shape = (x.shape[0] + extra_steps, x.shape[1])
    synapses = Synapses(w, p, sigma, K, version)
    y, partial, block = conv(planes, used, synapses, shape, -1, precision, x.dtype, True)
    assert partial is not None
    norm = norm_fwd(partial, shape[0] * shape[1], block, gamma, beta, eps)
    return y, *norm, planes if keeps_planes(x, precision) else planes.new_empty(0)


@on_its_device
def _run_bwd(dy, x, cut, w, p, sigma, norm, K, version, precision, eps, need_x, need_w, need_sigma):
    synapses, found, B = Synapses(w, p, sigma, K, version), [], dy.shape[1]
    if norm:  # dy is cut into parts once, for both gradients
        planes, *found = norm_bwd(dy, norm, PARTS[precision], eps)
    else:
        planes, _ = split(dy, PARTS[precision])
    if need_x:
        shape = (x.shape[1] // B if cut else x.shape[0], B)
        found.append(conv(planes, None, synapses, shape, 1, precision, dy.dtype)[0])
    if need_w or need_sigma:
        x_PRC, used = (x, None) if cut else split_input(x, precision)
        gradients = weight_gradient(planes, x_PRC, used, B, synapses, precision, need_sigma)
        dw, dp, dsigma = gradients
        found += [dw, dp]
        if need_sigma:  # where all share one, the kernel's is still per synapse
            found.append(dsigma.sum().view(sigma.shape) if sigma.numel() == 1 else dsigma)
    return found


def _fake(x, w, p, sigma, K, version, extra_steps, precision):
    y = x.new_empty((x.shape[0] + extra_steps, x.shape[1], w.shape[1]))
    kept = planes_of(x, 1) if keeps_planes(x, precision) else x.new_empty(0, dtype=torch.bfloat16)
    return y, kept


def _fake_norm(x, w, p, sigma, gamma, beta, K, version, extra_steps, precision, eps):
    y, planes = _fake(x, w, p, sigma, K, version, extra_steps, precision)
    return y, *(w.new_empty(w.shape[1]) for _ in range(4)), planes


def _fake_bwd(
    dy, x, cut, w, p, sigma, norm, K, version, precision, eps, need_x, need_w, need_sigma
):
    found = [torch.empty_like(norm[1]) for _ in range(2)] if norm else []
    if need_x:
        B = dy.shape[1]
        found.append(dy.new_empty((x.shape[1] // B if cut else x.shape[0], B, w.shape[2])))
    if need_w or need_sigma:
        found += [torch.empty_like(w), torch.empty_like(w)]
    return [*found, torch.empty_like(sigma)] if need_sigma else found


_delay_bwd = register(
    # x: or if cut its part that the forward pass made; norm: see norm_bwd, empty without
    f"triton_delay_bwd(Tensor dy, Tensor x, bool cut, {SYNAPSES}, Tensor?[] norm, int K, "
    "str version, str precision, float eps, bool need_x, bool need_w, bool need_sigma) -> Tensor[]",
    _run_bwd,
    _fake_bwd,
)


def _save(ctx, arguments, results):
    x, *tensors, ctx.K, ctx.version, _, ctx.precision = arguments
    ctx.cut = keeps_planes(x, ctx.precision)
    ctx.save_for_backward(results[-1] if ctx.cut else x, *tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx, dy, _):
    return _gradients(ctx, dy, ctx.saved_tensors, [], 0.0)


def _save_norm(ctx, arguments, results):
    x, *tensors, gamma, _, ctx.K, ctx.version, _, ctx.precision, ctx.eps = arguments
    ctx.cut = keeps_planes(x, ctx.precision)
    ctx.save_for_backward(results[-1] if ctx.cut else x, *tensors, *results[:3], gamma)
    ctx.set_materialize_grads(False)  # a training step differentiates no statistics


def _backward_norm(ctx, dy, *dnorm):
    *dnorm, _ = dnorm  # the parts of x
    *tensors, y, mean, var, gamma = ctx.saved_tensors
    dy = torch.zeros_like(y) if dy is None else dy
    return _gradients(ctx, dy, tensors, [y, mean, var, gamma, *dnorm], ctx.eps)


def _gradients(ctx, dy, tensors, norm, eps) -> list:
    """One for each tensor of the forward pass, None where it is not needed."""
    need_x, need_w, need_p, need_sigma, *needs = ctx.needs_input_grad[:-1]
    need = (need_x, need_w or need_p, need_sigma)
    x, *others = tensors
    how = (ctx.K, ctx.version, ctx.precision, eps)
    found = iter(_delay_bwd(dy, x, ctx.cut, *others, norm, *how, *need))
    affine = [next(found), next(found)] if norm else []
    dx = next(found) if need_x else None
    dw, dp = (next(found), next(found)) if any(need[1:]) else (None, None)
    dsigma = next(found) if need_sigma else None
    return [dx, dw, dp, dsigma, *(g if n else None for g, n in zip(affine, needs, strict=True))]


_delay_fwd = register_differentiable(
    # out: y, and what keeps_planes says
    f"triton_delay_fwd(Tensor x, {SYNAPSES}, int K, str version, int extra_steps, "
    "str precision) -> (Tensor, Tensor)",
    _run,
    _fake,
    tensors=lambda *arguments: arguments[:4],
    save=_save,
    gradients=_backward,
)
_delay_norm_fwd = register_differentiable(
    f"triton_delay_norm_fwd(Tensor x, {SYNAPSES}, Tensor? gamma, Tensor? beta, int K, "
    "str version, int extra_steps, str precision, float eps) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _run_norm,
    _fake_norm,
    tensors=lambda *arguments: arguments[:6],
    save=_save_norm,
    gradients=_backward_norm,
)

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
    return _delay_fwd(x_TBC, *tensors, synapses.K, synapses.version, extra_steps, precision)[0]


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
    return _delay_norm_fwd(x_TBC, *tensors, *affine, *how)[:-1]
