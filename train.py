"""Train a spiking network that learns its delays: `python train.py --help`.

    python train.py                       # the digits inside the package
    python train.py shd --download        # the published recipe for SHD
    python train.py FILE.h5 --test-file TEST.h5

Parse -> build -> fit; everything else lives in the package `snndelay`.
"""

import sys

try:
    from snndelay.runs.cli import guarded
    from snndelay.runs.options import parse_train
    from snndelay.runs.settings import from_flat
except ModuleNotFoundError as missing:
    if not (missing.name or "").startswith("snndelay"):
        raise
    sys.exit("error: snndelay is not installed: run `pip install -e .` in this folder first")


def train(argv: list[str]) -> None:
    """Do what the command line asks for."""
    request = parse_train(argv)
    if request.text is not None:
        print(request.text)
        return
    configs = from_flat(request.settings)  # refuses bad settings before the slow imports
    from snndelay.runs.training import fit

    fit(*configs, preset=request.preset, resume=request.resume)


def main(argv: list[str] | None = None) -> int:
    """Run train.py with these arguments; returns the exit code."""
    return guarded(train, argv)


if __name__ == "__main__":
    sys.exit(main())
