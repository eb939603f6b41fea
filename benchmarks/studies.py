"""The studies that docs/choose.md takes its advice from: each is trained (or goes on, or is there
already), and its results and its picture are kept.

    python benchmarks/studies.py NAME [NAME ...] [--dataset FILE] [--out studies] [--processes N]

NAME: of `snndelay study --list`. The grid and a line per run go to benchmarks/results/studies/NAME,
the picture to docs/gallery/study-NAME.png; `python benchmarks/tables.py` makes tables of them.
Studies of data of one's own take these by --dataset; kept as NAME-FILE, without a picture.
"""

import argparse
import shutil
from pathlib import Path

from common import RESULTS
from gallery import PICTURES_AT, small
from PIL import Image

from snndelay.errors import UserError
from snndelay.runs.files import read_json, write_json
from snndelay.runs.studies import STUDIES
from snndelay.runs.study import run_study
from snndelay.runs.study_options import parse_study

KEPT = ("study.json", "results.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("names", nargs="+", choices=STUDIES, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("studies"), help="Train in this folder.")
    parser.add_argument("--dataset", type=Path, help="Data of one's own, of all studies named.")
    parser.add_argument("--processes", help="Train so many runs at a time.")
    o = parser.parse_args()
    for name in o.names:
        kept_as = f"{name}-{o.dataset.resolve().stem}" if o.dataset else name
        folder, kept = o.out / kept_as, RESULTS / "studies" / kept_as
        words = ["--preset", name, "--out", str(folder)]
        words += ["--dataset", str(o.dataset)] if o.dataset else []
        words += ["--processes", o.processes] if o.processes else []
        try:
            run_study(parse_study(words))
        except UserError as error:
            raise SystemExit(f"error: {error}") from None
        kept.mkdir(parents=True, exist_ok=True)
        for file in KEPT:
            shutil.copy(folder / file, kept / file)
        if o.dataset:  # where it lies on this machine is no setting
            study = read_json(kept / "study.json")
            study["base"] |= {"dataset": o.dataset.resolve().name}
            write_json(kept / "study.json", study)
        else:
            small(Image.open(folder / "study.png"), PICTURES_AT / f"study-{name}.png")


if __name__ == "__main__":
    main()
