"""Neurons that hear each other: the scan of any NEURONS entry with recurrent synapses, with or
without delays.

Legend: T time steps, B batch, N neurons, K delay taps, S state variables. Index m sends and n
receives.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from . import reference_recurrent
from .dispatch import dispatch
from .lif import check_neuron, rest, why_not_compiled
from .neurons import NeuronOptions, State, states_of
from .precision import exact
from .registered import register, register_differentiable
from .scan import SCHEMA, Scan, scan_of

# -- registered ops and their autograd, the same for every compiled backend ---
# A backend is a folder whose `recurrent` has the raw functions recurrent_fwd and recurrent_bwd. All
# tensors are float32. The adjoint scan makes the gradient of the whole current at every step; that
# of the weights is a product with what was heard, and torch makes it.


def _fake(weight, taps, start, past, saves, *scan):
    x = scan[0]
    T, B, N = x.shape
    trace = x.new_empty(len(start), T if saves else 1, B, N)
    z = x.new_empty(T if saves else 0, B, N)
    return [torch.empty_like(x), trace, z, x.new_empty(0 if taps is None else len(z), B, N)]


def _fake_adjoint(ds, dtrace, weight, taps, start, past, s, trace, *scan):
    x, _, _, coefficients, *_ = scan
    K, _, N = past.shape
    sums, like = x.new_empty(len(coefficients), N), torch.empty_like
    found = [like(x), sums, like(start), like(past)]
    return found if taps is None else [*found, x.new_empty(N, K)]


def _register(backend: str) -> Callable:
    """Registers the scan of a backend as op ``snndelay::{backend}_recurrent_fwd``, its adjoint with
    _bwd; returns the former.
    """
    raw = cache(lambda: import_module(f".{backend}.recurrent", __package__))

    adjoint = register(
        # out: gradients of z, of the coefficients as rows, of start, past and, if given, taps
        f"{backend}_recurrent_bwd(Tensor ds, Tensor? dtrace, Tensor weight, Tensor? taps, "
        f"Tensor start, Tensor past, Tensor s, Tensor trace, {SCHEMA}) -> Tensor[]",
        lambda ds, dtrace, weight, taps, start, past, s, trace, *scan: raw().recurrent_bwd(
            Scan(*scan), ds, dtrace, weight, taps, start, past, s, trace
        ),
        _fake_adjoint,
    )

    def tensors(weight, taps, start, past, saves, x, scale, shift, coefficients, *_):
        return weight, taps, start, past, x, *coefficients

    def save(ctx, arguments, results):
        weight, taps, start, past, _, _, _, _, coefficients, _, *ctx.options = arguments
        ctx.save_for_backward(*results, weight, taps, start, past, *coefficients)
        ctx.set_materialize_grads(False)  # a training step uses no state

    def gradients(ctx, ds, dtrace, *_):
        s, trace, z, u, weight, taps, start, past, *coefficients = ctx.saved_tensors
        ds = torch.zeros_like(s) if ds is None else ds.contiguous()
        dtrace = dtrace if dtrace is None else dtrace.contiguous()
        scan = (z, None, None, coefficients, None, *ctx.options)
        given = (weight, taps, start, past, s, trace)
        dz, sums, dstart, dpast, *dtaps = adjoint(ds, dtrace, *given, *scan)
        heard = torch.cat([past, s]) if taps is None else u
        dw = _weight_gradient(weight, dz, heard) if ctx.needs_input_grad[0] else None
        return dw, dtaps[0] if dtaps else None, dstart, dpast, dz, *sums.unbind()

    return register_differentiable(
        # out: spikes, states after each step, whole current z, what is heard of each sender
        f"{backend}_recurrent_fwd(Tensor weight, Tensor? taps, Tensor start, Tensor past, "
        f"bool saves, {SCHEMA}) -> Tensor[]",
        lambda weight, taps, start, past, saves, *scan: raw().recurrent_fwd(
            Scan(*scan), weight, taps, start, past, saves
        ),
        _fake,
        tensors=tensors,
        save=save,
        gradients=gradients,
    )


def _weight_gradient(weight: Tensor, dz: Tensor, heard: Tensor) -> Tensor:
    """``sum_tb dz[n, t] heard[m, t]``; with a weight for each tap i, heard is i steps on."""
    T, dz_NM = len(dz), dz.flatten(0, 1).T
    with exact(dz):
        if weight.ndim == 2:
            return dz_NM @ heard[:T].flatten(0, 1)
        taps = (heard[i : i + T].flatten(0, 1) for i in range(weight.shape[2]))
        return torch.stack([dz_NM @ heard_MN for heard_MN in taps], 2)


def _compiled(op: Callable) -> Callable:
    """The scan of a backend under the signature of the reference; coefficients may follow."""

    def run(x, weight, taps, state, constants, neuron, options, potentials, *coefficients):
        *start, past = state
        kinds = [v.dtype for v in start]
        scan = scan_of(x.float(), constants, neuron, options, None, None, *coefficients)
        near = (weight, taps, torch.stack([v.float() for v in start]), past)
        near = [None if a is None else a.float().contiguous() for a in near]
        learned = [a for a in (*near, scan.x, *scan.coefficients) if a is not None]
        saves = torch.is_grad_enabled() and any(a.requires_grad for a in learned)
        s, trace, *_ = op(*near, saves or potentials, *scan)
        # in memory of its own: a state that is carried on must not hold all steps
        ends = [v[-1].to(kind, copy=True) for v, kind in zip(trace, kinds, strict=True)]
        heard = torch.cat([past.to(s.dtype), s])[-len(past) :].to(past.dtype)
        found = s.to(x.dtype), (*ends, heard)
        return (*found, trace[0]) if potentials else found

    return run


RECURRENT = {
    "cpu": _compiled(_register("cpu")),
    "triton": _compiled(_register("triton")),
    "reference": reference_recurrent.recurrent_lif,
}

# -- public ---


def recurrent_rest(x_TBN: Tensor, K: int, neuron: str, options: NeuronOptions) -> State:
    """State of neurons that have seen no input and have not fired for K steps: that of ``lif`` and
    (K, B, N) zeros, on the device of ``x_TBN``, in float32 or better.
    """
    v, *others = rest(x_TBN, neuron, options)
    return v, *others, v.new_zeros(K, *v.shape)


def recurrent_lif(
    x_TBN: Tensor,
    weight: Tensor,
    taps: Tensor | None = None,
    state: State | None = None,
    *,
    neuron: str = "lif",
    options: NeuronOptions | None = None,
    potentials: bool = False,
    coefficients: Sequence[Tensor] | None = None,
    backend: str = "auto",
    **constants: Tensor | float,
) -> tuple:
    """Runs spiking neurons that hear each other: ``s, state = recurrent_lif(x, weight, tau=2.0)``,
    or with the membrane potentials ``s, state, v = recurrent_lif(..., potentials=True)``.

        s[t] = neuron(x[t] + r[t])      r[t, n] = sum_m W[n, m] sum_i k[m, i] s[t - K + i, m]

    A spike is heard one step later at the earliest; tap i delays it by K - 1 - i more.

    Args:
        x_TBN: feed-forward current, (T, B, N), T >= 1, floating.
        weight: from neuron m to n, (N, N); or (N, N, K), the weight of each tap of each synapse.
        taps: k, the share of each tap of each sending neuron, (N, K); None: no delays, or those in
            the weights.
        state: that of the neuron before the first step, as ``lif`` takes it, and last the spikes of
            the K steps before it (K = 1 without delays), the oldest first, (K, B, N); None: at
            rest, silence. The state of one call lets the next carry on.
        neuron, options, coefficients, constants: see ``lif``.
        potentials: whether to return the membrane potential after the reset of every step too.
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.

    Returns:
        Spikes 0/1, shape and dtype of ``x_TBN``; the state after the last step, in the dtypes of
        ``state``; and with ``potentials`` these, (T, B, N), float32 (float64 for float64). Computed
        in float32 (float64 for float64). Differentiable in x, weight, taps, state and constants;
        ``options.detach_state`` cuts gradients through neurons and not those through their spikes.

    Raises:
        ValueError: unknown neuron, missing or superfluous constants, shapes that disagree.
        BackendError: the backend cannot run.

    Source: Queant et al. 2025 (arXiv 2509.24852); neurons as in ``lif``.
    """
    options = options or NeuronOptions()
    check_neuron(neuron, constants, "recurrent_lif")
    _check_shapes(x_TBN, weight, taps)
    K = weight.shape[2] if weight.ndim == 3 else 1 if taps is None else taps.shape[1]
    if state is None:
        state = recurrent_rest(x_TBN, K, neuron, options)
    else:
        _check_state(x_TBN, state := tuple(state), K, neuron, options)
    why_not = why_not_compiled(x_TBN.dtype, neuron, options, constants)
    device = x_TBN.device.type
    run = dispatch("recurrent_lif", RECURRENT, backend, device, cpu=why_not, triton=why_not)
    given: tuple = (weight, taps, state, constants, neuron, options, potentials)
    return run(x_TBN, *given, *(() if run is RECURRENT["reference"] else (coefficients,)))


def _check_shapes(x_TBN: Tensor, weight: Tensor, taps: Tensor | None) -> None:
    N = x_TBN.shape[-1]
    if x_TBN.ndim != 3 or not x_TBN.numel() or not x_TBN.is_floating_point():
        raise ValueError(
            "recurrent_lif: x must be (T, B, N), floating and not empty, not "
            f"{tuple(x_TBN.shape)} {x_TBN.dtype}"
        )
    if weight.shape[:2] != (N, N) or weight.ndim not in (2, 3) or not weight.numel():
        raise ValueError(
            f"recurrent_lif: weight must be ({N}, {N}) or ({N}, {N}, K) to fit x, not "
            f"{tuple(weight.shape)}"
        )
    if taps is None:
        return
    if weight.ndim == 3:
        raise ValueError("recurrent_lif: weights for each tap, (N, N, K), leave no place for taps")
    if taps.ndim != 2 or len(taps) != N or not taps.numel():
        raise ValueError(f"recurrent_lif: taps must be ({N}, K), not {tuple(taps.shape)}")


def _check_state(x_TBN: Tensor, state: State, K: int, neuron: str, options: NeuronOptions) -> None:
    names, shape = states_of(neuron, options), x_TBN.shape[1:]
    if [v.shape for v in state] != [shape] * len(names) + [(K, *shape)]:
        raise ValueError(
            f"recurrent_lif: {neuron} needs a state ({', '.join(names)}, the last {K} spikes) of "
            f"shapes {tuple(shape)} and {(K, *shape)}, not {[tuple(v.shape) for v in state]}"
        )
