"""Every stream of random numbers of the product, by name; nothing else makes a generator.

    rng = generator("order", seed, epoch, 0)        # numpy, for data
    u = uniforms("sliding", seed, epoch, index_B, 1)  # for all samples of a batch at once
    torch.manual_seed(torch_seed("step", seed, epoch, step))

A stream is a function of its key only, whatever was drawn before: so runs resume, and a batch is
the same for any number of workers. A key is four words of 32 bits, filled up with zeros as numpy
does it; where a number needs 64 bits, four more words hold the upper halves. Two streams of a run
never have one key:

- PER_SAMPLE keys end with their number, at least 1, in the fourth word: they differ there from
  each other, and from PER_RUN keys, which have 0 there;
- PER_RUN keys have their number in the second word, and the next two are 0;
- PER_DRAW streams are Philox's: its key is the seed, its counter says which draw, of which sample,
  in which epoch and of which stream, so that a GPU draws the same bits for a batch as the host;
- OF_TORCH keys begin with their number; their hash seeds another algorithm than numpy's, so that
  they need to differ only from each other.

OF_CONTENT says what the data sets that are made here consist of, and so is fixed for ever. Speech,
room and task have five words or more, which no other key of 32-bit numbers has; they differ in the
fifth. A recording's key is one number of 64 bits, two
words: it can be that of a PER_RUN stream, which draws something else, and no run on recordings
splits clips.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ConfigError
from ..kernels.philox import words
from .names import as_bytes

WORD = 2**32


class Stream(NamedTuple):
    """`number` tells it from the others of its family; `of`: what the rest of its key means."""

    number: int
    of: tuple[str, ...]


_SAMPLE = ("seed", "epoch", "index")
PER_SAMPLE = {
    "order": Stream(1, _SAMPLE),  # of training, one for each epoch: index 0
    "sltt_steps": Stream(2, ("seed", "epoch", "step")),  # which time steps learn
    "memory_train": Stream(20, ("seed", "epoch", "step")),  # trials of memory tasks
    "memory_valid": Stream(21, ("seed", "epoch", "step")),
    "memory_test": Stream(22, ("seed", "n", "step")),
}
PER_DRAW = {
    "augment_audio": Stream(3, _SAMPLE),  # what a clip draws
    "augment_spike": Stream(8, _SAMPLE),  # what each of its events draws
    "sliding": Stream(4, _SAMPLE),  # whether a static sequence gives way
    "augment_static": Stream(5, _SAMPLE),
    "augment_event": Stream(6, _SAMPLE),
    "cell_event": Stream(9, _SAMPLE),  # what a pixel of a recording draws in a step
    "cell_static": Stream(10, _SAMPLE),
    "augment_noise": Stream(11, _SAMPLE),  # which of a clip's events become noise
    "partner": Stream(7, _SAMPLE),  # which image teaches a recording
}
PER_RUN = {
    "split_audio": Stream(0, ("seed",)),
    "pictures": Stream(2, ("seed",)),  # which images a finished run shows
    "memory_probe": Stream(20, ("seed",)),  # bits under which time constants are measured
    "split_vision": Stream(0x5B117, ("seed",)),
}
OF_TORCH = {
    "init": Stream(1, ("seed",)),  # first weights and positions
    "step": Stream(2, ("seed", "epoch", "step")),  # dropout
}
OF_CONTENT = {
    "speech": Stream(0, ("seed", "voice", "label", "clip")),
    "room": Stream(1, ("seed", "voice", "label", "clip")),
    "task": Stream(2, ("seed", "file", "part", "sample")),  # of generated tasks; file: `file_seed`
    "recording": Stream(0, ("seed",)),  # noise of a simulated sensor
}
STREAMS = PER_SAMPLE | PER_RUN | OF_TORCH | OF_CONTENT  # that have a key


def generator(stream: str, *numbers: int) -> np.random.Generator:
    """A new generator at the start of `stream`, one of STREAMS but those of torch. `numbers`: what
    the stream is a function of, as listed there. Errors: ConfigError as `key`."""
    if stream == "recording":  # 64 bits, the key as it always was
        return np.random.default_rng(*numbers)
    return np.random.default_rng(key(stream, *numbers))


class Counter(NamedTuple):
    """Where a PER_DRAW stream draws: `seed` is Philox's key as signed 64 bits; the draws of a
    sample have the counters (0.., index of the sample, `epoch`, `stream`)."""

    seed: int
    epoch: int
    stream: int


def counter(stream: str, seed: int, epoch: int) -> Counter:
    """Where `stream`, one of PER_DRAW, draws in an epoch. Errors: ConfigError for a seed outside
    0..2**64 - 1 or an epoch outside 0..2**32 - 1."""
    for name, value, end in (("seed", seed, 64), ("epoch", epoch, 32)):
        if not 0 <= value < 2**end:
            raise ConfigError(f"{name} is {value}: give a number from 0 to 2**{end} - 1")
    return Counter(seed - 2**64 if seed >= 2**63 else seed, epoch, PER_DRAW[stream].number)


def uniforms(stream: str, seed: int, epoch: int, index_B: np.ndarray, n: int) -> np.ndarray:
    """`n` numbers of `stream`, one of PER_DRAW, for each sample: float64 (B, n), inside (0, 1), of
    32 bits each. `index_B`: the samples, integers (B,). Errors: ConfigError as `counter`."""
    at = counter(stream, seed, epoch)
    index_B1 = torch.from_numpy(np.array(index_B, np.int64))[:, None]
    block_1J = torch.arange(-(-n // 4))[None]
    zero = torch.zeros_like(index_B1 + block_1J)
    key = torch.tensor(at.seed)
    drawn = words(key, zero + block_1J, zero + index_B1, zero + at.epoch, zero + at.stream)
    w_BN = torch.stack(drawn, -1).flatten(1)[:, :n].numpy()
    return (w_BN + 0.5) / WORD


def torch_seed(stream: str, *numbers: int) -> int:
    """The seed, below 2**64, that brings torch to the start of a stream of OF_TORCH. `numbers`:
    what the stream is a function of. Errors: ConfigError as `key`."""
    sequence = np.random.SeedSequence(key(stream, *numbers))
    return int(sequence.generate_state(1, np.uint64)[0])


def file_seed(text: str) -> int:
    """The seed, below 2**64, of what is made from one file, from a text that names it: the first 8
    bytes of the text's SHA-256."""
    return int.from_bytes(hashlib.sha256(as_bytes(text)).digest()[:8], "little")


def key(stream: str, *numbers: int) -> tuple[int, ...]:
    """The key of a stream, words of 32 bits. Errors: ConfigError for a number outside 0..2**64 - 1;
    KeyError or TypeError for a stream or numbers that STREAMS does not have."""
    number, of = STREAMS[stream]
    if len(numbers) != len(of):
        raise TypeError(f"stream {stream} is of {', '.join(of)}, not of {len(numbers)} numbers")
    for name, value in zip(of, numbers, strict=True):
        if not 0 <= value < WORD**2:
            raise ConfigError(f"{name} is {value}: give a number from 0 to 2**64 - 1")
    high, low = zip(*(divmod(int(value), WORD) for value in numbers), strict=True)
    words = _four(number, *low) if stream in OF_TORCH else _four(*low, number)
    return words + _four(*high) if any(high) else words


def _four(*words: int) -> tuple[int, ...]:
    return words + (0,) * (4 - len(words))
