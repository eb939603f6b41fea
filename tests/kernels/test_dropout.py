"""The random numbers of dropout masks: those of Philox, and the same bits as Triton's."""

import pytest
import torch
import triton
import triton.language as tl

from snndelay.kernels.dropout import Dropout, keep_mask, philox, uniform

from .helpers import DEVICE


@triton.jit
def rand_kernel(seed, out, first, N: tl.constexpr):
    i_n = tl.arange(0, N)
    tl.store(out + i_n, tl.rand(tl.load(seed), first + i_n))


def test_known_answer():
    """The published test vector for counter 0 and key 0; its first word is below 2**31."""
    assert int(philox(torch.tensor(0), torch.tensor(0))) == 0x6627E8D5


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 7, 2**62 - 1, -5, -(2**63)])
@pytest.mark.parametrize("first", [0, 2**31 - 1024])
def test_the_same_bits_as_triton(seed, first):
    seed, out = torch.tensor(seed, device=DEVICE), torch.empty(1024, device=DEVICE)
    rand_kernel[(1,)](seed, out, first, 1024)
    got = uniform(seed, torch.arange(first, first + 1024, device=DEVICE))
    assert torch.equal(got, out)


def test_the_compiled_scan_draws_the_same_numbers():
    from snndelay.kernels.cpu import lif_kernels as cpu_scan

    seed = 2**61 + 12345
    offset = torch.cat([torch.arange(500), torch.arange(2**31 - 500, 2**31)])
    got = torch.tensor([cpu_scan.draw(seed, int(i)) for i in offset])
    assert torch.equal(got, philox(torch.tensor(seed), offset))


def test_masks():
    held = keep_mask(Dropout(0.25, "held", torch.tensor(3)), 50, 40, 30)
    step = keep_mask(Dropout(0.25, "step", torch.tensor(3)), 50, 40, 30)
    assert held.shape == (1, 40, 30) and step.shape == (50, 40, 30)
    assert torch.equal(step[:1], held), "the first step of both masks is at the same places"
    assert not torch.equal(step[0], step[1])
    for mask in (held, step):
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
        error = (mask.mean() - 1).abs() * (mask.numel() / (1 / 0.75 - 1)) ** 0.5
        assert error < 4, f"the mean of a mask is {error} standard errors from 1"
