"""What `train.py --help`, `--help-all` and `--list` print."""

import dataclasses
import textwrap
from typing import Any

from ..data import catalog
from ..errors import alternatives
from ..networks import NETWORKS
from .fields import choices_of
from .flat import components_of, lines_of, other_kinds
from .machine import program
from .presets import PRESETS
from .settings import KINDS

OTHER_OPTIONS = {
    "preset": "recipe for a FILE or FOLDER; see --list; default: audio-small or vision-small",
    "config": "YAML or a run's config.json with settings",
    "resume": "go on with an interrupted run: its folder or name",
}
FLAGS = {
    "allow-changes": "with --resume: of settings in the run's config.json",
    "list": "presets and data sets",
    "help": "this text",
    "help-all": "every option",
}
COMMON = (  # in the short help
    "epochs", "batch_size", "seed", "max_delay_steps", "delays", "dropout", "temporal_gradient",
    "valid_fraction", "device", "run", "test_file", "n_hidden", "lr_max", "static", "transfer",
    "n_labelled",
)  # fmt: skip

EXAMPLES = (
    ("", "the digits in the package"),
    ("shd --download", "the published recipe for SHD"),
    ("mine.h5 --test-file test.h5", "your file in SHD's layout"),
    ("dvs", "images teach an event camera"),
    ("n-parity", "a memory task, N by N"),
    ("RECORDINGS --static IMAGES", "the same on your folders"),
    ("--resume runs/shd-0", "after Ctrl-C or a crash"),
)


def option(name: str) -> str:
    """Setting -> option: max_delay_steps -> --max-delay-steps."""
    return "--" + name.replace("_", "-")


def help_short() -> str:
    """Help that fits a screen of 80 x 40."""
    lines = [line for name in COMMON for line in _lines(option(name), _short(name))]
    lines += _others()
    note = "defaults come from the preset; every option of its kind: PRESET --help-all"
    return "\n".join([_usage(), "", *lines, note, "", *_examples()])


def help_all(kind: str, recipe: dict[str, Any]) -> str:
    """Help with every option that a run of this kind takes. recipe: flat settings of its preset,
    whose values are shown in brackets."""
    lines = [_usage(), ""]
    for component in components_of(kind).values():
        lines += textwrap.wrap(component.__doc__ or "", 80)
        for line in dataclasses.fields(component):
            lines += _lines(option(line.name), _long(line, recipe))
        lines.append("")
    first = {entry.kind: name for name, entry in reversed(catalog.DATASETS.items())}
    note = [f"these are for {kind}"]
    note += [f"for {other}: {program()} {first[other]} --help-all" for other in other_kinds(kind)]
    return "\n".join([*lines, "Other", *_others(), "", *note, "", *_examples()])


def listing() -> str:
    """Presets, with how they differ from what was published, and data sets."""
    presets = []
    for name, preset in PRESETS.items():
        first, *more = textwrap.wrap(preset["note"], 79, break_on_hyphens=False)
        presets += [f"  {name:19s}{first}", *(" " * 21 + line for line in more)]
    return "\n".join(["presets", *presets, "", *catalog.listing()])


def _short(name: str) -> str:
    """First part of a setting's help, and its kind where only one has it."""
    kinds = [kind for kind in KINDS if name in lines_of(kind)]
    text = lines_of(kinds[0])[name].metadata["help"].split(";")[0]
    return text if len(kinds) > 1 else f"{kinds[0]}: {text}"


def _long(line: dataclasses.Field, recipe: dict[str, Any]) -> str:
    """Help of a setting with what it does not say itself: choices, condition, value."""
    about, value = line.metadata, recipe.get(line.name, line.default)
    text = about["help"]
    if line.name == "network":
        text += ": " + "; ".join(f"{name}, {NETWORKS[name].help}" for name in choices_of(line))
    elif any(choice not in text for choice in choices_of(line)):
        text += f": {', '.join(choices_of(line))}"
    if about["needs"]:
        other, _, values = about["needs"].partition("=")
        text += f"; with {option(other)} {alternatives(values.split('|'))}"
    return f"{text} [{shown(value)}]"


def shown(value: Any) -> str:
    """The value of a setting as one writes it: null, true, 256,128."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _lines(name: str, text: str) -> list[str]:
    first, *rest = textwrap.wrap(text, 54)
    return [f"  {name:23s} {first}", *(" " * 26 + more for more in rest)]


def _others() -> list[str]:
    lines = [line for name, text in OTHER_OPTIONS.items() for line in _lines(option(name), text)]
    return lines + [f"  --{name:21s} {text}" for name, text in FLAGS.items()]


def _usage() -> str:
    return f"usage: {program()} [PRESET | FILE.h5 | FOLDER] [options]"


def _examples() -> list[str]:
    rows = [f"  {program()} {argv:30s}{text}" for argv, text in EXAMPLES]
    return ["examples:", *rows]
