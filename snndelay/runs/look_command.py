"""`snndelay data NAME | FILE | FOLDER`: words of the command line -> text, JSON and a picture."""

import json
import sys
from pathlib import Path

from ..data.catalog import DATASETS, kind_of
from ..data.one_file import one_sample
from ..errors import BadSamples, ConfigError, DataError
from .flat import from_flat
from .look import look_at
from .look_text import lines
from .options import any_kind_parser, parse, parse_train
from .plots.look import may_write, overview

STANDS_FOR = {  # one sample -> data of its kind, in whose place it is read, and their recipe
    "recording": ["--dataset", "dvs", "--preset", "vision-small"],
    "clip": ["--dataset", "spoken-digits", "--preset", "audio-small"],
    "audio file": ["--dataset", "gsc", "--preset", "gsc"],
}


def look_command(argv: list[str], check: bool, json: bool, plot: str | None) -> None:
    """Prints what is found, as text or with `json` as one object. `argv`: a data set, file or
    folder and options of train.py. `plot`: the PNG to draw, which is replaced only if it was drawn
    so. Errors: BadSamples if `check` finds bad ones, and whatever opening the data raises."""
    known = any_kind_parser()
    for name in ("--check", "--json", "--plot"):  # so that they are suggested for what is near
        known.add_argument(name, type=str)
    parse(known, argv)
    if not argv or argv[0].startswith("--"):
        raise ConfigError("say which data: snndelay data NAME, FILE.h5 or FOLDER, options behind")
    picture = None if plot is None else may_write(Path(plot).expanduser())
    file = _single_file(argv[0])
    target = [argv[0]] if argv[0] in DATASETS else ["--dataset", argv[0]]  # no preset is meant
    if file is not None:
        target = STANDS_FOR.get(one_sample(file), STANDS_FOR["recording"])
    request = parse_train([*target, *argv[1:]], lenient=True)
    if request.text is not None:
        raise ConfigError("see snndelay data --help, and train.py --help-all for what frames take")
    settings = from_flat(request.settings)
    if picture is not None and settings.kind == "memory":
        raise ConfigError("trials of bits have no picture: leave out --plot")
    look = look_at(settings, request.preset, check, file)
    if picture is not None:
        overview(look, picture)
        look.found["plot"] = str(picture)
    print(_text(look.found) if json else "\n".join(lines(look.found, check)))
    if check and look.n_bad:
        n = sum(len(part.labels) for part in look.parts)
        raise BadSamples(f"{look.n_bad} of {n} samples cannot be used")


def _text(found: dict) -> str:
    """As JSON, with the characters that the screen has and escapes for others."""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        return text
    except UnicodeEncodeError:
        return json.dumps(found, indent=1)


def _single_file(target: str) -> Path | None:
    """The file that is meant, if it is one sample; None: a data set, or nothing is there."""
    path = Path(target).expanduser()
    if not path.is_file():
        return None
    try:
        kind_of(target)
    except DataError:
        return path
    return None
