"""Trains the conditions of static-to-event transfer and appends one JSON line per run.

    python benchmarks/transfer.py RECORDINGS IMAGES [--preset nmnist] [--labelled 50 100 200 500]
        [--conditions transfer event-only ...] [--seeds 0 1 2] [--jobs 2] [--set epochs=20 ...]

Every run makes the same number of updates whatever the number of labelled recordings (--updates).
Each line is the summary.json of a run (test accuracy of the last epoch, on all recordings whose
images are in neither domain of the training) with its settings and the commit.
`python benchmarks/tables.py` turns the lines into the tables of docs/vision.md.
"""

import argparse
import itertools
from pathlib import Path

from common import RESULTS, append, changes, cores, trained

from snndelay.data.batches import n_batches
from snndelay.kernels.profile.measure import commit
from snndelay.runs.presets import preset_settings

CONDITIONS = {  # name -> settings beside those of transfer
    "event-only": {"transfer": "off"},
    "finetune": {"transfer": "finetune"},  # as many updates on images before those on events
    "transfer": {"transfer": "align"},
    "no sliding": {"transfer": "align", "sliding": "off"},
    "no coefficients": {"transfer": "align", "coefficient": "off"},
    "fixed 0.5": {"transfer": "align", "coefficient": "0.5"},
    "last channel": {"transfer": "align", "static_channel": "last"},
    "saccades": {"transfer": "align", "static_as": "saccade"},
    "saccades, finetune": {"transfer": "finetune", "static_as": "saccade"},
    "event-only, sltt": {"transfer": "off", "temporal_gradient": "sltt"},
    "event-only, sltt-2": {"transfer": "off", "temporal_gradient": "sltt", "backward_steps": 2},
    "transfer, sltt": {"transfer": "align", "temporal_gradient": "sltt"},
}


def settings(options: argparse.Namespace, changed: dict, case: tuple) -> dict:
    """Settings of one run that differ from the preset's."""
    labelled, condition, seed = case
    flat = preset_settings(options.preset) | changed
    epochs = max(2, round(options.updates / n_batches(labelled, flat["batch_size"])))
    made = {"n_labelled": labelled, "seed": seed, "epochs": epochs, "compare": False}
    made |= {"dataset": options.recordings, "static": options.images}
    made |= changed | CONDITIONS[condition]
    if made["transfer"] == "finetune":
        made |= {"epochs": 2 * epochs, "pretrain_epochs": epochs}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("recordings")
    parser.add_argument("images")
    parser.add_argument("--preset", default="nmnist")
    parser.add_argument("--labelled", nargs="+", type=int, default=[50, 100, 200, 500])
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=[*CONDITIONS][:5])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--name", help="data set's name in the result lines; default: its folder")
    parser.add_argument("--out", type=Path, default=RESULTS / "transfer.jsonl")
    options = parser.parse_args()
    for name in ("recordings", "images"):
        path = Path(getattr(options, name)).expanduser()
        setattr(options, name, str(path.resolve()) if path.exists() else str(path))
    changed = changes(options.set)
    threads = max(1, cores() // options.jobs)
    cases = [*itertools.product(options.labelled, options.conditions, options.seeds)]
    jobs = [(settings(options, changed, case), options.preset, threads) for case in cases]
    made_at = commit()
    for (labelled, condition, seed), line in zip(cases, trained(jobs, options.jobs), strict=True):
        for where in ("root", "cache"):  # a place on this machine, not a setting
            line["settings"].pop(where, None), line.pop(where, None), changed.pop(where, None)
        line |= {"condition": condition, "changes": changed, "commit": made_at}
        line["updates"] = options.updates
        line["name"] = options.name or Path(options.recordings).name
        line["dataset"], line["static"] = line["name"], Path(options.images).name
        line["settings"] |= {"dataset": line["name"], "static": line["static"]}
        append(line, options.out)
        accuracy = f"{line['test_accuracy']:.4f} of {line['n_test']}"
        print(f"{labelled} {condition} seed {seed}: {accuracy}", flush=True)


if __name__ == "__main__":
    main()
