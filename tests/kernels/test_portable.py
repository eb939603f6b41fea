"""The one source of steps and slopes, before a backend uses it: numba compiles it in float32, and
its formulas are those of the reference.
"""

import numpy as np
import pytest
import torch

from snndelay.kernels import NEURONS, SURROGATES, NeuronOptions
from snndelay.kernels.cpu.portable import numba_source

from ..conftest import assert_close
from .helpers import COMPILED, SLOPED, random_constants


def scalars(n: int) -> list[np.float32]:
    return [np.float32(v) for v in torch.randn(n).tolist()]


@pytest.mark.parametrize("name", SLOPED)
@pytest.mark.parametrize("alpha", [0.5, 5.0])
def test_numba_slope_is_the_derivative(name, alpha):
    import numba

    slope = numba.njit(numba_source(SURROGATES[name].slope))
    u = torch.linspace(-3, 3, 101)
    got = torch.tensor([slope(np.float32(v), np.float32(alpha)) for v in u.tolist()])
    assert_close(got, SURROGATES[name].derivative(u, alpha), 1e-6, name)
    (signature,) = slope.nopython_signatures
    assert signature.return_type == numba.float32, f"{name} computes in {signature.return_type}"


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("part", ["charge", "charge_adjoint", "settle", "settle_adjoint"])
def test_numba_computes_a_step_in_float32(name, part):
    import numba

    source = getattr(NEURONS[name], part)
    if source is None:
        assert part.startswith("settle") and len(NEURONS[name].states) == 1
        return
    compiled = numba.njit(numba_source(source))
    arguments = scalars(source.__code__.co_argcount)
    got, want = np.atleast_1d(compiled(*arguments)), np.atleast_1d(source(*arguments))
    assert_close(torch.from_numpy(got), torch.from_numpy(want), 1e-6, part)
    (signature,) = compiled.nopython_signatures
    types = {signature.return_type, *getattr(signature.return_type, "types", [])}
    assert numba.float64 not in types, f"{part} computes in {signature.return_type}"


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("decay_input", [True, False])
def test_charge_and_settle_are_the_step_of_the_reference(name, reset, decay_input):
    entry, rest = NEURONS[name], -0.25 if reset == "hard" else 0.0
    options = NeuronOptions(reset=reset, v_reset=-0.25, decay_input=decay_input)
    constants = random_constants(name, 50)
    x, v, w = torch.randn(50) * 3, torch.randn(50), torch.randn(50)
    c = [*entry.coefficients(constants, options), 0, 0, 0, 0][:4]
    s, state = entry.step(x, (v, w)[: len(entry.states)], constants, options)
    h = entry.charge(x, v, w, *c, rest)
    assert torch.equal((h >= 1).float(), s) and 0 < s.mean() < 1
    u = torch.where(s > 0, rest, h) if reset == "hard" else h - s
    assert_close(u, state[0], 1e-6, "potential")
    if entry.settle:
        assert_close(entry.settle(x, u, s, w, *c), state[1], 1e-6, "second state")


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("part", ["charge", "settle"])
def test_adjoints_are_those_of_autograd(name, part):
    forward, adjoint = (getattr(NEURONS[name], p) for p in (part, f"{part}_adjoint"))
    if forward is None:
        pytest.skip("one state variable")
    n = 7 if part == "charge" else 8
    inputs = [torch.randn((), dtype=torch.float64, requires_grad=True) for _ in range(n)]
    constant = [0.3] if part == "charge" else []  # the resting potential
    g = torch.randn((), dtype=torch.float64)
    want = torch.autograd.grad(
        forward(*inputs, *constant), inputs, g, allow_unused=True, materialize_grads=True
    )
    got = adjoint(g, *inputs, *constant)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_close(torch.as_tensor(a) + b.new_zeros(()), b, 1e-12, f"{part} of {name}, input {i}")
