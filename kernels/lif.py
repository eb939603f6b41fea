"""Neuron dynamics over all time steps: the scan over any NEURONS entry, and the leaky readout.

Legend: T time steps, B batch, N neurons, Q steps from one saved state to the next.
"""

from collections.abc import Callable
from importlib import import_module
from math import prod

import torch
from torch import Tensor
from torch.library import custom_op

from . import reference
from .dispatch import dispatch, why_not_dtype
from .dropout import Dropout
from .neurons import NEURONS, Constants, NeuronOptions, State
from .surrogate import SURROGATES

# -- registered ops and their autograd, the same for every compiled backend ---

_OPTIONS = (
    "str neuron, float v_threshold, float rest, str reset, bool detach_reset, "
    "bool detach_state, str surrogate, float alpha, float p_drop, str mask"
)
_FORWARD = (
    "(Tensor x, Tensor? scale, Tensor? shift, Tensor[] states, Tensor[] coefficients, "
    f"Tensor? seed, {_OPTIONS}) -> Tensor[]"  # spikes, states, checkpoints, bits
)
_BACKWARD = (
    "(Tensor ds, Tensor[] dstates, Tensor x, Tensor? scale, Tensor? shift, Tensor checkpoints, "
    f"Tensor bits, Tensor[] coefficients, Tensor? seed, {_OPTIONS}) -> Tensor[]"
)


def _register(backend: str, module: str, packs: bool) -> tuple[Callable, Callable]:
    """Registers the scans of a backend as ops ``snndelay::{backend}_lif_fwd`` and so on; returns
    the forward ops of neuron and readout.

    ``module``, imported on first use, has the raw functions ``lif_fwd``, ``lif_bwd``,
    ``readout_fwd`` and ``readout_bwd``, and ``STEPS``, the Q of its checkpoints. ``packs``: its
    forward scan records the fired spikes as bits. There is no autocast rule: x may come in half
    precision, the scans keep their state in float32.
    """

    def raw():
        return import_module(f".{module}", __package__)

    name = f"snndelay::{backend}"
    return _register_lif(name, raw, packs), _register_readout(name, raw)


def _register_lif(name: str, raw: Callable, packs: bool) -> Callable:
    @custom_op(f"{name}_lif_fwd", mutates_args=(), schema=_FORWARD)
    def forward(*arguments):
        *given, neuron, v_threshold, rest, reset, _, _, _, _, p_drop, mask = arguments
        return raw().lif_fwd(*given, neuron, v_threshold, rest, reset, p_drop, mask)

    @custom_op(f"{name}_lif_bwd", mutates_args=(), schema=_BACKWARD)
    def adjoint(*arguments):
        return raw().lif_bwd(*arguments)

    @forward.register_fake
    def _(x, scale, shift, states, *_):
        T, B, N = x.shape
        steps, words = raw().STEPS, (N + 31) // 32 if packs else 0
        saved = x.new_empty((T + steps - 1) // steps, len(states), B, N, dtype=torch.float32)
        bits = x.new_empty(T, B, words, dtype=torch.int32)
        return [torch.empty_like(x), *(torch.empty_like(v) for v in states), saved, bits]

    @adjoint.register_fake
    def _(ds, dstates, x, scale, shift, checkpoints, bits, coefficients, *_):
        norm = [x.new_empty(x.shape[2], dtype=torch.float32) for _ in range(2)]
        rest = [torch.empty_like(t) for t in (*dstates, *coefficients)]
        return [torch.empty_like(x), *norm, *rest]

    def setup_context(ctx, inputs, output):
        x, scale, shift, states, coefficients, seed, *ctx.options = inputs
        ctx.save_for_backward(x, scale, shift, *output[-2:], seed, *coefficients)
        ctx.dtypes = [x.dtype, *(v.dtype for v in states)]
        ctx.set_materialize_grads(False)

    def backward(ctx, grads):
        x, scale, shift, checkpoints, bits, seed, *coefficients = ctx.saved_tensors
        n = len(ctx.dtypes) - 1
        shapes = [x.shape, *[x.shape[1:]] * n]
        ds, *dstates = (
            x.new_zeros(shape, dtype=dtype) if g is None else g.contiguous()
            for g, shape, dtype in zip(grads, shapes, ctx.dtypes, strict=False)
        )
        saved = (x, scale, shift, checkpoints, bits, coefficients, seed)
        dx, d_scale, d_shift, *rest = adjoint(ds, dstates, *saved, *ctx.options)
        norm = (None, None) if scale is None else (d_scale, d_shift)
        return dx, *norm, rest[:n], rest[n:], *[None] * 11

    forward.register_autograd(backward, setup_context=setup_context)
    return forward


def _register_readout(name: str, raw: Callable) -> Callable:
    @custom_op(f"{name}_readout_fwd", mutates_args=())
    def forward(x: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return raw().readout_fwd(x, v, keep)

    @custom_op(f"{name}_readout_bwd", mutates_args=())
    def adjoint(
        dv: Tensor, v_all: Tensor, v: Tensor, keep: Tensor, need_keep: bool
    ) -> list[Tensor]:
        return raw().readout_bwd(dv, v_all, v, keep, need_keep)

    forward.register_fake(lambda x, v, keep: torch.empty_like(x))
    adjoint.register_fake(
        lambda dv, v_all, v, keep, need_keep: [torch.empty_like(t) for t in (dv, v, keep)]
    )
    forward.register_autograd(
        lambda ctx, g: tuple(adjoint(g.contiguous(), *ctx.saved_tensors, ctx.needs_input_grad[2])),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output, *inputs[1:]),
    )
    return forward


def _inputs(x_TBN, state, constants, neuron, options, norm) -> tuple:
    """What every scan starts with: x, scale, shift, states, coefficients."""
    coefficients = NEURONS[neuron].coefficients(constants, options)
    return (
        _samples(x_TBN, 1),
        *((None, None) if norm is None else (_per_neuron(p, x_TBN) for p in norm)),
        [_samples(v, 0) for v in state],
        [_per_neuron(c, x_TBN) for c in coefficients],
    )


def _compiled_lif(op: Callable) -> Callable:
    """The scan of a backend under the signature of ``reference.lif``."""

    def run(x_TBN, state, constants, neuron, options, norm, dropout):
        o, d = options, dropout
        s, *ends, _, _ = op(
            *_inputs(x_TBN, state, constants, neuron, options, norm),
            d.seed if d else None,
            *(neuron, o.v_threshold, _potential_at_rest(o), o.reset, o.detach_reset),
            *(o.detach_state, o.surrogate, o.alpha),
            *((d.p, d.mask) if d else (0.0, "held")),
        )
        return s.view(x_TBN.shape), tuple(v.view(x_TBN.shape[1:]) for v in ends)

    return run


def _packed(x_TBN, state, constants, neuron, options, norm) -> tuple[Tensor, State]:
    """The Triton scan that writes nothing but bits."""
    from .triton import lif as triton_lif  # imports triton

    bits, *ends = triton_lif.lif_fwd_packed(
        *_inputs(x_TBN, state, constants, neuron, options, norm),
        *(neuron, options.v_threshold, _potential_at_rest(options), options.reset),
    )
    return bits.view(*x_TBN.shape[:-1], -1), tuple(v.view(x_TBN.shape[1:]) for v in ends)


def _compiled_readout(op: Callable) -> Callable:
    """The readout of a backend under the signature of ``reference.readout``."""

    def run(x_TBN, v_BN, tau):
        keep = _per_neuron(1 - 1 / torch.as_tensor(tau, dtype=torch.float32), x_TBN)
        return op(_samples(x_TBN, 1), _samples(v_BN, 0), keep).view(x_TBN.shape)

    return run


def _samples(x: Tensor, start: int) -> Tensor:
    """All axes from ``start`` on but the last as one axis of samples."""
    return x.flatten(start, -2).contiguous()


def _per_neuron(c: Tensor, x_TBN: Tensor) -> Tensor:
    return c.to(x_TBN.device, torch.float32).expand(x_TBN.shape[-1]).contiguous()


_cpu_lif, _cpu_readout = _register("cpu", "cpu.scan", packs=False)
_triton_lif, _triton_readout = _register("triton", "triton.lif", packs=True)

LIF = {
    "cpu": _compiled_lif(_cpu_lif),
    "triton": _compiled_lif(_triton_lif),
    "reference": reference.lif,
}
READOUT = {
    "cpu": _compiled_readout(_cpu_readout),
    "triton": _compiled_readout(_triton_readout),
    "reference": reference.readout,
}

# -- public ---


def why_not_compiled(dtype: torch.dtype, neuron: str, options: NeuronOptions) -> str | None:
    """Why the compiled scans cannot run such a call; None if they can."""
    if NEURONS[neuron].charge is None:
        return f"neuron {neuron} has no compiled step"
    if SURROGATES[options.surrogate].slope is None:
        return f"surrogate {options.surrogate} has no compiled slope"
    if options.smooth:
        return "the smooth spike exists in the reference only"
    return why_not_dtype(dtype)


def _potential_at_rest(options: NeuronOptions) -> float:
    return options.v_reset if options.reset == "hard" else 0.0


def rest(x_TBN: Tensor, neuron: str, options: NeuronOptions) -> State:
    """State of a neuron that has seen no input: potentials at rest, adaptation 0; each (B, N) on
    the device of ``x_TBN``, in float32 or better.
    """
    dtype = torch.promote_types(x_TBN.dtype, torch.float32)
    _, *others = NEURONS[neuron].states
    v = torch.full_like(x_TBN[0], _potential_at_rest(options), dtype=dtype)
    return v, *(torch.zeros_like(v) for _ in others)


def lif(
    x_TBN: Tensor,
    state: State | None = None,
    *,
    neuron: str = "lif",
    options: NeuronOptions | None = None,
    norm: tuple[Tensor, Tensor] | None = None,
    dropout: Dropout | None = None,
    packed: bool = False,
    backend: str = "auto",
    **constants: Tensor | float,
) -> tuple[Tensor, State]:
    """Runs a spiking neuron over all time steps: ``s, (v_T,) = lif(x, tau=2.0)``.

    Computes in float32 whatever floating type comes in (float64 for float64).

    Args:
        x_TBN: input current, (T, B, N) with any further axes before N, T >= 1, floating.
        state: one tensor (B, N) per state variable of the neuron before the first step; None: at
            rest, in float32 (float64 for float64).
        neuron: a key of ``NEURONS``.
        options: threshold, reset and surrogate; None: the defaults of ``NeuronOptions``.
        norm: pair (scale, shift), each () or (N,): the neuron sees ``x * scale + shift``.
        dropout: on the spikes after they have reset the neuron; None: none.
        packed: for evaluation: spikes as bits without a gradient, 32 neurons to a word, which
            ``delay_integer`` takes. Not with dropout.
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.
        constants: the constants of the neuron by name (``tau`` in steps for ``lif``; ``w`` for
            ``plif``; ``tau_u``, ``tau_w``, ``a``, ``b`` for ``adlif``): a float, a scalar tensor or
            (N,); tensors may require gradients.

    Returns:
        Spikes 0/1 (with dropout 0 or 1/(1-p)), shape and dtype of ``x_TBN``, or packed (T, B,
        ceil(N / 32)) int32; and the state after the last step, in the dtypes of ``state``.
        Differentiable in x, state, norm and constants.

    Raises:
        ValueError: unknown neuron, missing or superfluous constants, state of another shape, or too
            many places for the dropout's mask.
        BackendError: the backend cannot run.

    Source: LIF as in Hammouamri et al. 2024 (arXiv 2306.17670), equations 1 to 3; PLIF Fang et al.
    2021 (arXiv 2007.05785); adLIF Baronig et al. 2024 (arXiv 2408.07517).
    """
    options = options or NeuronOptions()
    _check_neuron(neuron, constants)
    if x_TBN.ndim < 3 or x_TBN.shape[0] == 0:
        raise ValueError(f"lif: x must be (T, B, N) with T >= 1, not {tuple(x_TBN.shape)}")
    state = rest(x_TBN, neuron, options) if state is None else tuple(state)
    if [v.shape for v in state] != [x_TBN.shape[1:]] * len(NEURONS[neuron].states):
        raise ValueError(
            f"lif: {neuron} needs a state ({', '.join(NEURONS[neuron].states)}) "
            f"of shape {tuple(x_TBN.shape[1:])} each, not {[tuple(v.shape) for v in state]}"
        )
    if dropout and prod(x_TBN.shape[dropout.mask == "held" :]) >= 2**31:
        raise ValueError("lif: a dropout mask has at most 2**31 - 1 places; split the batch")
    if dropout and packed:
        raise ValueError("lif: packed spikes are for evaluation, which has no dropout")
    why_not = why_not_compiled(x_TBN.dtype, neuron, options)
    run = dispatch("lif", LIF, backend, x_TBN.device.type, cpu=why_not, triton=why_not)
    if not packed:
        return run(x_TBN, state, constants, neuron, options, norm, dropout)
    with torch.no_grad():
        if run is LIF["triton"]:
            return _packed(x_TBN, state, constants, neuron, options, norm)
        s_TBN, state = run(x_TBN, state, constants, neuron, options, norm, None)
        return reference.pack(s_TBN), state


def _check_neuron(neuron: str, constants: Constants) -> None:
    if neuron not in NEURONS:
        raise ValueError(f"lif: neuron must be one of {', '.join(NEURONS)}, not {neuron!r}")
    wanted = NEURONS[neuron].constants
    if set(constants) != set(wanted):
        raise ValueError(
            f"lif: {neuron} takes the constants ({', '.join(wanted) or 'none'}), "
            f"not ({', '.join(constants) or 'none'})"
        )


def readout(
    x_TBN: Tensor, v_BN: Tensor | None = None, tau: Tensor | float = 2.0, backend: str = "auto"
) -> Tensor:
    """Leaky integrator that never fires: ``v[t] = (1 - 1/tau) v[t-1] + x[t]``.

    Args:
        x_TBN: input current, (T, B, N) with any further axes before N, T >= 1, floating.
        v_BN: potential before the first step, (B, N); None: 0.
        tau: time constant in steps, >= 1; a float, a scalar tensor or (N,).
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.

    Returns:
        Potential after each step, (T, B, N), summed in float32 (float64 for float64) and returned
        in the dtype of ``x_TBN``; the last one is the state to carry on with.

    Raises:
        ValueError: shapes disagree. BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.3.
    """
    v_BN = torch.zeros_like(x_TBN[0]) if v_BN is None else v_BN
    if v_BN.shape != x_TBN.shape[1:]:
        raise ValueError(
            f"readout: v must be {tuple(x_TBN.shape[1:])} like one step of x, "
            f"not {tuple(v_BN.shape)}"
        )
    why_not = why_not_dtype(x_TBN.dtype)
    run = dispatch("readout", READOUT, backend, x_TBN.device.type, cpu=why_not, triton=why_not)
    return run(x_TBN, v_BN, tau)
