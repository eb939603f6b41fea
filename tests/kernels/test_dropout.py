"""The random numbers of dropout masks: those of Philox, and the same bits as Triton's."""

import pytest
import torch
import triton
import triton.language as tl

from snndelay.kernels.dropout import Dropout, draw, keep_mask, uniform
from snndelay.kernels.philox import words

from .helpers import DEVICE


@triton.jit
def rand_kernel(seed, out, first, N: tl.constexpr):
    i_n = tl.arange(0, N)
    tl.store(out + i_n, tl.rand(tl.load(seed), first + i_n))


ONES = 2**32 - 1
KNOWN = {  # published test vectors: key and counter -> words
    (0, 0, 0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    (-1, ONES, ONES, ONES, ONES): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    (0x299F31D0A4093822, 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344): (
        0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("given", KNOWN)
def test_known_answers(given):
    assert tuple(map(int, words(*map(torch.tensor, given)))) == KNOWN[given]


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
    got = torch.tensor([cpu_scan.draw_word(seed, int(i)) for i in offset])
    assert torch.equal(got, draw(torch.tensor(seed), offset))


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
