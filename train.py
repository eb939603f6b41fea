"""Train a spiking network that learns its delays: `python train.py --help`.

    python train.py                       # the digits inside the package
    python train.py shd --download        # the published recipe for SHD
    python train.py FILE.h5 --test-file TEST.h5

Parse -> build -> fit: `train` in snndelay/runs/cli.py, which is `snndelay train` too.
"""

import sys

try:
    from snndelay.runs.cli import guarded, train
except ModuleNotFoundError as missing:
    sys.exit(f"error: there is no {missing.name}: run `pip install -e .` in this folder first")


def main(argv: list[str] | None = None) -> int:
    """Run train.py with these arguments; returns the exit code."""
    return guarded(train, argv)


if __name__ == "__main__":
    sys.exit(main())
