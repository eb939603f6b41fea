"""Tiny data sets in SHD's layout, and the options of a run that takes less than a second."""

import contextlib
import importlib.util
import io
from pathlib import Path

import numpy as np

from snndelay.data.audio.shd import write_shd
from snndelay.data.events import Events

ROOT = Path(__file__).parent.parent
TINY = {
    "n_hidden": 8,
    "n_layers": 2,
    "max_delay_steps": 5,
    "units_per_channel": 70,
    "n_steps": 20,
    "batch_size": 4,
    "threads": 1,
    "epochs": 2,
}
TINY_OPTIONS = [
    word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))
]


def write_tiny(path: Path, n: int = 12, n_classes: int = 3, seed: int = 0) -> str:
    """A file of n clips of 200 ms whose class is the band of units that is active."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    width = 700 // n_classes
    clips = [
        Events(rng.integers(0, 200_000, 80), rng.integers(k * width, (k + 1) * width, 80))
        for k in labels
    ]
    names = ["zero", "one", "two", "three", "four"][:n_classes]
    write_shd(path, clips, labels, names, speakers=np.arange(n) // 3)
    return str(path)


def load_train_py():
    """train.py as a module."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(main, *argv: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of main(argv)."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = main([str(word) for word in argv])
    return code, out.getvalue(), err.getvalue()
