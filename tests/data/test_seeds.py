"""Streams of random numbers: no two are one, and those that figures depend on keep their bits."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from snndelay.data import seeds
from snndelay.data.seeds import STREAMS, generator, key, torch_seed
from snndelay.errors import ConfigError
from snndelay.kernels.philox import words

DATA = Path(seeds.__file__).resolve().parent
NUMBERS = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))
OF_NUMPY = [*seeds.PER_SAMPLE, *seeds.PER_RUN, "speech", "room", "task"]
PAIRS = [*itertools.combinations(OF_NUMPY, 2), *itertools.combinations(seeds.OF_TORCH, 2)]


def state(words: tuple[int, ...]) -> list[int]:
    """What numpy makes of a key: the first 128 bits of the stream's state."""
    return np.random.SeedSequence(words).generate_state(4).tolist()


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
@given(st.lists(NUMBERS, min_size=4, max_size=4), st.lists(NUMBERS, min_size=4, max_size=4))
@example([0, 0, 0, 0], [0, 0, 0, 0])
@example([5, 7, 0, 0], [5, 7, 0, 0])
@example([5 + 2 * 2**32, 0, 0, 0], [5, 0, 0, 0])
@example([5, 2, 0, 0], [5 + 2 * 2**32, 0, 0, 0])
def test_two_streams_never_have_one_key(pair, one, other):
    one, other = (
        key(stream, *numbers[: len(STREAMS[stream].of)])
        for stream, numbers in zip(pair, (one, other), strict=True)
    )
    assert one != other, f"{pair} meet at {one}"
    assert state(one) != state(other), f"numpy takes the keys {one} and {other} for one"


@pytest.mark.parametrize("stream", [*OF_NUMPY, *seeds.OF_TORCH])
@given(st.lists(NUMBERS, min_size=4, max_size=4), st.lists(NUMBERS, min_size=4, max_size=4))
@example([5, 2**32, 0, 0], [5 + 2**32, 0, 0, 0])
@example([0, 2**32, 0, 0], [0, 0, 2**32, 0])
def test_other_numbers_are_another_key(stream, one, other):
    n = len(STREAMS[stream].of)
    keys = key(stream, *one[:n]), key(stream, *other[:n])
    same = one[:n] == other[:n]
    assert (keys[0] == keys[1]) is same and (state(keys[0]) == state(keys[1])) is same, keys


def test_streams_of_single_draws_have_no_generator():
    for stream in seeds.PER_DRAW:
        with pytest.raises(KeyError):
            generator(stream, 0, 0, 0)


@pytest.mark.parametrize(
    ("stream", "numbers", "was"),
    [
        ("order", (3, 4, 0), (3, 4, 0, 1)),
        ("split_audio", (3,), 3),
        ("split_vision", (3,), (3, 0x5B117)),
        ("speech", (2024, 1, 2, 3), (2024, 1, 2, 3, 0)),
        ("room", (2024, 1, 2, 3), (2024, 1, 2, 3, 1)),
        ("recording", (2**32 + 7,), 2**32 + 7),
    ],
)
def test_streams_that_figures_and_files_depend_on_keep_their_bits(stream, numbers, was):
    got, want = generator(stream, *numbers).random(5), np.random.default_rng(was).random(5)
    assert np.array_equal(got, want), f"{stream} draws {got}"


@pytest.mark.parametrize(
    ("stream", "number"),
    [("sliding", 4), ("augment_static", 5), ("augment_event", 6), ("partner", 7)],
)
def test_single_draws_keep_their_bits(stream, number):
    """Philox's words at (block, sample, epoch, stream), the seed as its key, each in the middle of
    its part of (0, 1)."""
    at = [torch.tensor(value) for value in (3 - 2**63, 0, 5, 4, number)]
    blocks = [words(at[0], torch.tensor(block), *at[2:]) for block in (0, 1)]
    want = [(int(word) + 0.5) / 2**32 for block in blocks for word in block][:6]
    got = seeds.uniforms(stream, 3 + 2**63, 4, np.array([9, 5]), 6)
    assert got[1].tolist() == want, f"{stream} draws {got[1]}"


def test_one_draw_keeps_its_value():
    assert seeds.uniforms("sliding", 3, 4, np.array([5]), 1).tolist() == [[0.7382243777392432]]


@pytest.mark.parametrize("stream", seeds.PER_DRAW)
def test_draws_are_a_function_of_seed_epoch_sample_and_stream(stream):
    index_B = np.array([7, 0, 2**31])
    u_BN = seeds.uniforms(stream, 2**64 - 1, 3, index_B, 6)
    assert u_BN.shape == (3, 6) and u_BN.min() > 0 and u_BN.max() < 1
    assert len(np.unique(u_BN)) == u_BN.size
    assert np.array_equal(seeds.uniforms(stream, 2**64 - 1, 3, index_B[::-1], 2), u_BN[::-1, :2])
    others = [(stream, 1, 3), (stream, 2**64 - 1, 2)]
    others += [(other, 2**64 - 1, 3) for other in seeds.PER_DRAW if other != stream]
    for other in others:
        assert not np.isin(seeds.uniforms(*other, index_B, 6), u_BN).any(), other


def test_draws_are_uniform_and_no_two_streams_are_related():
    u = np.stack([seeds.uniforms(s, 5, 1, np.arange(2000), 5).ravel() for s in seeds.PER_DRAW])
    errors = (u.mean(1) - 0.5) * np.sqrt(12 * u.shape[1])
    assert np.abs(errors).max() < 4, f"means are {errors} standard errors from 1/2"
    correlations = np.corrcoef(u)[np.triu_indices(len(u), 1)] * np.sqrt(u.shape[1])
    assert np.abs(correlations).max() < 4.5, f"{correlations} standard errors from 0"


def test_torch_s_seeds_keep_their_values():
    assert torch_seed("init", 5) == 15152708626915684481
    assert torch_seed("step", 5, 6, 7) == 5906733463619577340
    assert seeds.file_seed("a") == int.from_bytes(
        bytes.fromhex("ca978112ca1bbdca"), "little"
    )  # SHA-256 of "a"


def test_numbers_that_make_no_key():
    for bad in (-1, 2**64):
        with pytest.raises(ConfigError, match=f"epoch is {bad}: give a number from 0"):
            generator("order", 0, bad, 0)
        with pytest.raises(ConfigError, match=f"seed is {bad}: give a number from 0"):
            seeds.uniforms("sliding", bad, 0, np.arange(2), 1)
    with pytest.raises(TypeError, match="seed, epoch, index, not of 2 numbers"):
        generator("order", 0, 0)


def test_nothing_else_in_the_room_makes_a_generator():
    makers = {"default_rng", "SeedSequence", "RandomState", "manual_seed", "seed"}
    for path in DATA.rglob("*.py"):
        if path.name == "seeds.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            made = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in makers
            benchmark = path.name == "cochlea.py"  # noise for `python -m ...cochlea`
            assert not made or benchmark, f"{path.name}, line {node.lineno} makes random numbers"
