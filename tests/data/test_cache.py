import hashlib
import json
import multiprocessing as mp
import os
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from snndelay.data.cache import cached_frames
from snndelay.errors import DataError

KEY = {"dataset": "a", "size": [4, 5], "n_steps": 3}
SHAPE = (3, 2, 4, 5)


def counts(i: int) -> np.ndarray:
    return np.random.default_rng(i).poisson(3, SHAPE).astype(np.float32)


class Maker:
    """`make` that remembers what it was asked for."""

    def __init__(self, make=counts):
        self.make, self.asked = make, []

    def __call__(self, i: int) -> np.ndarray:
        self.asked.append(i)
        return self.make(i)


def never(i: int) -> np.ndarray:
    raise AssertionError("the frames are on disk: they must not be made again")


def slow(i: int) -> np.ndarray:
    time.sleep(0.02)
    return counts(i)


def assert_frames(got: np.ndarray, make=counts, n: int = 6) -> None:
    assert got.shape == (n, *SHAPE), got.shape
    for i in range(n):
        assert np.array_equal(got[i], make(i)), f"sample {i} differs"


def only_file(folder):
    (file,) = folder.iterdir()
    return file


@pytest.mark.parametrize("on_disk", [True, False])
def test_frames_are_made_once_and_kept(tmp_path, on_disk):
    make, folder = Maker(), tmp_path / "new" / "cache" if on_disk else None
    got = cached_frames(KEY, make, 6, folder)
    assert_frames(got)
    assert make.asked == list(range(6)), f"asked for {make.asked}"
    assert not got.flags.writeable, "a training step could change the cache"
    if on_disk:
        again = cached_frames(dict(reversed(KEY.items())), never, 6, folder)
        assert isinstance(again, np.memmap), "the file must be mapped, not read"
        assert_frames(again)
        text = '{"dataset":"a","n_steps":3,"size":[4,5]}'
        assert json.loads(text) == KEY
        assert only_file(folder).stem == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (counts, np.uint8),
        (lambda i: np.full(SHAPE, 255.0), np.uint8),
        (lambda i: np.full(SHAPE, 256.0 if i == 5 else i), np.float16),
        (lambda i: np.full(SHAPE, 0.25 * i), np.float16),
        (lambda i: np.full(SHAPE, -1.0), np.float16),
        (lambda i: np.full(SHAPE, 2049.0 if i == 2 else 0.5), np.float32),
        (lambda i: np.full(SHAPE, 1e6 if i == 3 else i), np.float32),
        (lambda i: np.random.default_rng(i).random(SHAPE, np.float32), np.float32),
    ],
)
def test_the_smallest_exact_dtype_is_taken(tmp_path, make, dtype, on_disk):
    got = cached_frames(KEY, make, 6, tmp_path if on_disk else None)
    assert got.dtype == dtype, f"{got.dtype} instead of {dtype}"
    assert_frames(got, make)


def test_counts_are_kept_with_the_frames(tmp_path):
    kept, read = np.zeros(2, np.int64), np.zeros(2, np.int64)

    def make(i):
        kept[:] += (i, 10**12)
        return np.full(SHAPE, 0.25 * i)  # needs a second start, with another dtype

    for folder in (None, tmp_path):
        kept[:] = 0
        cached_frames(KEY, make, 6, folder, counts=kept)
        assert kept.tolist() == [15, 6 * 10**12]
    cached_frames(KEY, never, 6, tmp_path, counts=read)
    assert read.tolist() == kept.tolist()


def test_another_key_or_count_is_another_set(tmp_path):
    cached_frames(KEY, counts, 6, tmp_path)
    other = cached_frames({**KEY, "n_steps": 4}, lambda i: counts(i + 50), 6, tmp_path)
    assert_frames(other, lambda i: counts(i + 50))
    assert len(list(tmp_path.iterdir())) == 2
    assert_frames(cached_frames(KEY, counts, 7, tmp_path), n=7)


def damaged(raw: bytes) -> dict[str, bytes]:
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 1
    header = bytearray(raw)
    header[20] ^= 255
    return {
        "empty": b"",
        "cut": raw[:-1],
        "half": raw[: len(raw) // 2],
        "longer": raw + b"\0",
        "one bit": bytes(flipped),
        "header": bytes(header),
        "four zeros": bytes(4),
        "never on disk": bytes(len(raw)),
        "no frames at all": b"hello, world",
    }


@pytest.mark.parametrize("kind", damaged(bytes(100)))
def test_a_damaged_file_is_made_again(tmp_path, kind):
    cached_frames(KEY, counts, 6, tmp_path)
    file = only_file(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damaged(whole)[kind])
    make = Maker()
    assert_frames(cached_frames(KEY, make, 6, tmp_path))
    assert make.asked, f"the damage ({kind}) was not seen"
    assert only_file(tmp_path).read_bytes() == whole


def test_an_error_while_making_leaves_nothing(tmp_path):
    def broken(i):
        if i == 3:
            raise KeyError("no such recording")
        return counts(i)

    with pytest.raises(KeyError):
        cached_frames(KEY, broken, 6, tmp_path)
    assert not list(tmp_path.iterdir()), "a half-made file is left"


def test_two_processes_at_once(tmp_path):
    arguments = [(KEY, slow, 6, tmp_path)] * 3
    with mp.get_context("spawn").Pool(3) as pool:
        for got in pool.starmap(cached_frames, arguments):
            assert_frames(np.asarray(got))
    only_file(tmp_path)
    assert_frames(cached_frames(KEY, never, 6, tmp_path))


FULL_DISK = """
import resource, signal, sys
import numpy as np
from snndelay.data.cache import cached_frames
from snndelay.data.events import DataError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    cached_frames({}, lambda i: np.ones((10, 2, 34, 34)), 4, sys.argv[1])
except DataError as error:
    print(error)
"""


def test_a_full_disk_is_one_sentence(tmp_path):
    """A limit on the size of files stands for the end of the disk."""
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert f"cannot keep the frames in {tmp_path}" in run.stdout, run.stdout
    assert "give --cache false" in run.stdout and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(DataError, match=f"cannot keep the frames in {folder} .*--cache false"):
            cached_frames(KEY, counts, 6, folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="--cache false"):
        cached_frames(KEY, counts, 6, tmp_path)


@pytest.mark.parametrize("on_disk", [True, False])
def test_refusals(tmp_path, on_disk):
    folder = tmp_path if on_disk else None
    with pytest.raises(DataError, match="no sample"):
        cached_frames(KEY, counts, 0, folder)
    with pytest.raises(DataError, match=r"frames of sample 1 have shape \(1, 2, 4, 5\)"):
        cached_frames(KEY, lambda i: counts(i)[: 3 - 2 * i], 2, folder)
    assert not list(tmp_path.iterdir())


def test_progress_goes_to_stderr_only_if_asked(capsys):
    cached_frames(KEY, counts, 6, None)
    assert capsys.readouterr() == ("", "")
    cached_frames(KEY, counts, 6, None, progress="framing")
    assert "framing" in capsys.readouterr().err


def test_making_a_file_needs_little_memory(tmp_path):
    frames = np.ones((10, 2, 100, 100), np.float32)
    tracemalloc.start()
    got = cached_frames(KEY, lambda i: frames, 200, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.nbytes == 40e6 and peak < 12e6, f"{peak / 1e6:.0f} MB for a file of 40 MB"
