"""Neuron dynamics over all time steps: the scan over any NEURONS entry, and the leaky readout.

Legend: T time steps, B batch, N neurons, Q steps from one saved state to the next.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib import import_module
from math import prod

import torch
from torch import Tensor

from . import reference
from .dispatch import dispatch, why_not_dtype
from .dropout import Dropout
from .neurons import NEURONS, Constants, NeuronOptions, State, potential_at_rest, states_of
from .registered import register, register_differentiable
from .scan import SCHEMA, Scan, decay_of, per_neuron, samples, scan_of
from .surrogate import SURROGATES

# -- registered ops and their autograd, the same for every compiled backend ---
# A backend is a folder: `lif` has the raw functions lif_fwd and lif_bwd, STEPS (the Q of its
# checkpoints) and PACKS (whether its forward scan records the fired spikes as bits), and `readout`
# has readout_fwd and readout_bwd. Both are imported on first use. There is no autocast rule: x may
# come in half precision, the scans keep their state in float32.


def _register_lif(backend: str) -> Callable:
    """Registers the scan of a backend as op ``snndelay::{backend}_lif_fwd``, its adjoint with _bwd;
    returns the former.
    """
    raw = cache(lambda: import_module(f".{backend}.lif", __package__))

    def fake(states, potentials, *scan):
        x, n = scan[0], len(NEURONS[Scan(*scan).neuron].states)
        T, B, N = x.shape
        steps, words = raw().STEPS, (N + 31) // 32 if raw().PACKS else 0
        dtypes = [v.dtype for v in states] or [torch.float32] * n
        ends = [x.new_empty(B, N, dtype=dtype) for dtype in dtypes]
        saved = x.new_empty((T + steps - 1) // steps, n, B, N, dtype=torch.float32)
        bits = x.new_empty(T, B, words, dtype=torch.int32)
        after = [torch.empty_like(x, dtype=torch.float32)] if potentials else []
        return [torch.empty_like(x), *ends, saved, bits, *after]

    def fake_adjoint(ds, dstates, du, checkpoints, bits, starts, constants, *scan):
        x, scale, _, coefficients, *_ = scan
        rows = 2 * (scale is not None) + constants * len(coefficients)
        dtypes = [v.dtype for v in dstates] or [torch.float32] * checkpoints.shape[1]
        first = [x.new_empty(x.shape[1:], dtype=dtype) for dtype in dtypes if starts]
        return [torch.empty_like(x), x.new_empty(rows, x.shape[2], dtype=torch.float32), *first]

    adjoint = register(
        # dstates: none where they are 0; du: of the potentials; starts, constants: whether the
        # gradients of the first states and of the coefficients are wanted; out: that of x, those of
        # scale, shift and coefficients as rows of one tensor, those of the first states
        f"{backend}_lif_bwd(Tensor ds, Tensor[] dstates, Tensor? du, Tensor checkpoints, "
        f"Tensor bits, bool starts, bool constants, {SCHEMA}) -> Tensor[]",
        lambda ds, dstates, du, checkpoints, bits, starts, constants, *scan: raw().lif_bwd(
            Scan(*scan), ds, dstates, checkpoints, bits, starts, constants, du
        ),
        fake_adjoint,
    )

    def tensors(states, potentials, x, scale, shift, coefficients, *_):
        return *states, x, scale, shift, *coefficients

    def save(ctx, arguments, results):
        states, _, x, scale, shift, coefficients, seed, *ctx.options = arguments
        n = 1 + len(NEURONS[ctx.options[0]].states)
        ctx.save_for_backward(*results[n : n + 2], x, scale, shift, seed, *coefficients)
        ctx.dtypes = [v.dtype for v in results[1:n]]
        ctx.given = len(states)
        ctx.set_materialize_grads(False)  # a training step uses no state after the last step

    def gradients(ctx, ds, *dstates):
        checkpoints, bits, x, scale, shift, seed, *coefficients = ctx.saved_tensors
        ds, dtypes = torch.zeros_like(x) if ds is None else ds.contiguous(), ctx.dtypes
        du = next((g.contiguous() for g in dstates[len(dtypes) + 2 :] if g is not None), None)
        dstates = dstates[: len(dtypes)]
        if all(g is None for g in dstates):
            dstates = []
        dstates = [
            x.new_zeros(x.shape[1:], dtype=dtype) if g is None else g.contiguous()
            for g, dtype in zip(dstates, dtypes, strict=False)
        ]
        n = ctx.given
        needs = any(ctx.needs_input_grad[:n]), any(ctx.needs_input_grad[n + 3 :])
        scan = (x, scale, shift, coefficients, seed, *ctx.options)
        dx, sums, *first = adjoint(ds, dstates, du, checkpoints, bits, *needs, *scan)
        norm, rows = (None, None), list(sums.unbind())
        if scale is not None:
            norm, rows = rows[:2], rows[2:]
        rows = rows if needs[1] else [None] * len(coefficients)
        return *(first if needs[0] else [None] * n), dx, *norm, *rows

    return register_differentiable(
        # states: none where the neuron starts at rest; out: spikes, states, checkpoints, bits and,
        # if wanted, potentials
        f"{backend}_lif_fwd(Tensor[] states, bool potentials, {SCHEMA}) -> Tensor[]",
        lambda states, potentials, *scan: raw().lif_fwd(Scan(*scan), states, potentials),
        fake,
        tensors=tensors,
        save=save,
        gradients=gradients,
    )


def _register_readout(backend: str) -> Callable:
    """The same for the readout. ``v`` None: from 0; ``keep`` None: 1 - 1/tau for all neurons."""
    raw = cache(lambda: import_module(f".{backend}.readout", __package__))

    def run_adjoint(dv, v_all, v, keep, tau, need_v, need_keep):
        decay = decay_of(tau) if keep is None else keep
        return raw().readout_bwd(dv, v_all, v, decay, need_v, need_keep)

    def fake_adjoint(dv, v_all, v, keep, tau, need_v, need_keep):
        wanted = ((dv, True), (v, need_v), (keep, need_keep))
        return [torch.empty_like(t) for t, need in wanted if need]

    adjoint = register(
        f"{backend}_readout_bwd(Tensor dv, Tensor v_all, Tensor? v, Tensor? keep, float tau, "
        "bool need_v, bool need_keep) -> Tensor[]",
        run_adjoint,
        fake_adjoint,
    )

    def save(ctx, arguments, result):
        _, v, keep, ctx.tau = arguments
        ctx.save_for_backward(result, v, keep)

    def gradients(ctx, g):
        needs = ctx.needs_input_grad[1:3]
        dx, *found = adjoint(g.contiguous(), *ctx.saved_tensors, ctx.tau, *needs)
        found = iter(found)
        return dx, *(next(found) if need else None for need in needs)

    return register_differentiable(
        f"{backend}_readout_fwd(Tensor x, Tensor? v, Tensor? keep, float tau) -> Tensor",
        lambda x, v, keep, tau: raw().readout_fwd(x, v, decay_of(tau) if keep is None else keep),
        lambda x, v, keep, tau: torch.empty_like(x),
        tensors=lambda x, v, keep, tau: (x, v, keep),
        save=save,
        gradients=gradients,
    )


def _compiled_lif(op: Callable) -> Callable:
    """The scan of a backend under the signature of ``reference.lif``; a state may be None, and
    coefficients may follow.
    """

    def run(x_TBN, state, constants, neuron, options, norm, dropout, potentials, *coefficients):
        scan = scan_of(x_TBN, constants, neuron, options, norm, dropout, *coefficients)
        s, *found = op([samples(v, 0) for v in state or ()], potentials, *scan)
        n = len(NEURONS[neuron].states)
        ends, u = found[:n], found[n + 2 :]
        s, *u = (a.view(x_TBN.shape) for a in (s, *u))
        return s, tuple(v.view(x_TBN.shape[1:]) for v in ends), *u

    return run


def _packed(x_TBN, state, *neuron) -> tuple[Tensor, State]:
    """The Triton scan that writes nothing but bits."""
    from .triton import lif as triton_lif  # imports triton

    *neuron, _, coefficients = neuron  # no potentials
    scan = scan_of(x_TBN, *neuron, coefficients)
    bits, *ends = triton_lif.lif_fwd_packed(scan, [samples(v, 0) for v in state or ()])
    return bits.view(*x_TBN.shape[:-1], -1), tuple(v.view(x_TBN.shape[1:]) for v in ends)


def _compiled_readout(op: Callable) -> Callable:
    """The readout of a backend under the signature of ``reference.readout``; v may be None."""

    def run(x_TBN, v_BN, tau):
        keep, number = None, 1.0
        if torch.is_tensor(tau):  # differentiated by torch: the kernel's gradient is that of keep
            keep = per_neuron(1 - 1 / tau.float(), x_TBN)
        else:
            number = float(tau)
        v_BN = v_BN if v_BN is None else samples(v_BN, 0)
        return op(samples(x_TBN, 1), v_BN, keep, number).view(x_TBN.shape)

    return run


LIF = {
    "cpu": _compiled_lif(_register_lif("cpu")),
    "triton": _compiled_lif(_register_lif("triton")),
    "reference": reference.lif,
}
READOUT = {
    "cpu": _compiled_readout(_register_readout("cpu")),
    "triton": _compiled_readout(_register_readout("triton")),
    "reference": reference.readout,
}

# -- public ---


def why_not_compiled(
    dtype: torch.dtype, neuron: str, options: NeuronOptions, constants: Collection[str] = ()
) -> str | None:
    """Why the compiled scans cannot run such a call; None if they can. ``constants``: the names of
    those that are given.
    """
    if NEURONS[neuron].charge is None:
        return f"neuron {neuron} has no compiled step"
    if callable(options.surrogate):
        return "a surrogate of one's own is not compiled"
    if SURROGATES[options.surrogate].slope is None:
        return f"surrogate {options.surrogate} has no compiled slope"
    if options.refractory:
        return "refractory steps exist in the reference only"
    if "v_threshold" in constants:
        return "a threshold that is learned or differs between neurons exists in the reference only"
    if options.smooth:
        return "the smooth spike exists in the reference only"
    return why_not_dtype(dtype)


def rest(x_TBN: Tensor, neuron: str, options: NeuronOptions) -> State:
    """State of a neuron that has seen no input: potentials at rest, adaptation 0; each (B, N) on
    the device of ``x_TBN``, in float32 or better.
    """
    dtype = torch.promote_types(x_TBN.dtype, torch.float32)
    _, *others = states_of(neuron, options)
    v = torch.full_like(x_TBN[0], potential_at_rest(options), dtype=dtype)
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
    potentials: bool = False,
    coefficients: Sequence[Tensor] | None = None,
    backend: str = "auto",
    **constants: Tensor | float,
) -> tuple:
    """Runs a spiking neuron over all time steps: ``s, (v_T,) = lif(x, tau=2.0)``, or with the
    membrane potentials ``s, (v_T,), v = lif(x, tau=2.0, potentials=True)``.

    Computes in float32 whatever floating type comes in (float64 for float64).

    Args:
        x_TBN: input current, (T, B, N) with any further axes before N, T >= 1, floating.
        state: one tensor (B, N) per state variable of the neuron before the first step; None: at
            rest, in float32 (float64 for float64). With ``options.refractory`` one more: the steps
            for which each neuron still is.
        neuron: a key of ``NEURONS``.
        options: threshold, reset and surrogate; None: the defaults of ``NeuronOptions``.
        norm: pair (scale, shift), each () or (N,): the neuron sees ``x * scale + shift``.
        dropout: on the spikes after they have reset the neuron; None: none.
        packed: for evaluation: spikes as bits without a gradient, 32 neurons to a word, which
            ``delay_integer`` takes. Neither with dropout nor with potentials.
        potentials: whether to return the membrane potential after the reset of every step too (of
            a neuron with several state variables the first).
        coefficients: what the neuron's entry makes of the constants for the compiled scans, () or
            (N,) float32, if that is known; None: computed from the constants, which is three
            kernels on a GPU.
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.
        constants: the constants of the neuron by name (``tau`` in steps for ``lif``; ``w`` for
            ``plif``; ``tau_u``, ``tau_w``, ``a``, ``b`` for ``adlif``): a float, a scalar tensor or
            (N,); tensors may require gradients. ``v_threshold`` among them takes the place of
            that of the options.

    Returns:
        Spikes 0/1 (with dropout 0 or 1/(1-p)), shape and dtype of ``x_TBN``, or packed (T, B,
        ceil(N / 32)) int32; the state after the last step, in the dtypes of ``state``; and with
        ``potentials`` these, shape of ``x_TBN``, float32 (float64 for float64). Differentiable in
        x, state, norm and constants.

    Raises:
        ValueError: unknown neuron, missing or superfluous constants, state of another shape, or too
            many places for the dropout's mask.
        BackendError: the backend cannot run.

    Source: LIF as in Hammouamri et al. 2024 (arXiv 2306.17670), equations 1 to 3; PLIF Fang et al.
    2021 (arXiv 2007.05785); adLIF Baronig et al. 2024 (arXiv 2408.07517).
    """
    options = options or NeuronOptions()
    check_neuron(neuron, constants)
    _check_input(x_TBN, dropout, packed, potentials)
    if state is not None:
        _check_state(x_TBN, state := tuple(state), neuron, options)
    why_not = why_not_compiled(x_TBN.dtype, neuron, options, constants)
    run = dispatch("lif", LIF, backend, x_TBN.device.type, cpu=why_not, triton=why_not)
    given = (constants, neuron, options, norm, dropout, potentials)
    if run is reference.lif:
        state = rest(x_TBN, neuron, options) if state is None else state
    else:  # its kernel starts at rest by itself
        given = (*given, coefficients)
    if not packed:
        return run(x_TBN, state, *given)
    with torch.no_grad():
        if run is LIF["triton"]:
            return _packed(x_TBN, state, *given)
        s_TBN, after = run(x_TBN, state, *given)
        return reference.pack(s_TBN), after


def check_neuron(neuron: str, constants: Constants, op: str = "lif") -> None:
    """ValueError in the name of ``op`` for an unknown neuron or other constants than it takes."""
    if neuron not in NEURONS:
        raise ValueError(f"{op}: neuron must be one of {', '.join(NEURONS)}, not {neuron!r}")
    wanted = NEURONS[neuron].constants
    if set(constants) - {"v_threshold"} != set(wanted):
        raise ValueError(
            f"{op}: {neuron} takes the constants ({', '.join(wanted) or 'none'}), "
            f"not ({', '.join(constants) or 'none'})"
        )


def _check_input(x_TBN: Tensor, dropout: Dropout | None, packed: bool, potentials: bool) -> None:
    if x_TBN.ndim < 3 or x_TBN.shape[0] == 0:
        raise ValueError(f"lif: x must be (T, B, N) with T >= 1, not {tuple(x_TBN.shape)}")
    if dropout and prod(x_TBN.shape[dropout.mask == "held" :]) >= 2**31:
        raise ValueError("lif: a dropout mask has at most 2**31 - 1 places; split the batch")
    if dropout and packed:
        raise ValueError("lif: packed spikes are for evaluation, which has no dropout")
    if packed and potentials:
        raise ValueError("lif: packed spikes come without potentials")


def _check_state(x_TBN: Tensor, state: State, neuron: str, options: NeuronOptions) -> None:
    names = states_of(neuron, options)
    if [v.shape for v in state] != [x_TBN.shape[1:]] * len(names):
        raise ValueError(
            f"lif: {neuron} needs a state ({', '.join(names)}) "
            f"of shape {tuple(x_TBN.shape[1:])} each, not {[tuple(v.shape) for v in state]}"
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
    if v_BN is not None and v_BN.shape != x_TBN.shape[1:]:
        raise ValueError(
            f"readout: v must be {tuple(x_TBN.shape[1:])} like one step of x, "
            f"not {tuple(v_BN.shape)}"
        )
    why_not = why_not_dtype(x_TBN.dtype)
    run = dispatch("readout", READOUT, backend, x_TBN.device.type, cpu=why_not, triton=why_not)
    if v_BN is None and run is reference.readout:
        v_BN = torch.zeros_like(x_TBN[0])
    return run(x_TBN, v_BN, tau)
