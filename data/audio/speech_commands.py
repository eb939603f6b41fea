"""Google Speech Commands v2 as its archive lies on disk: 35 folders of words, and the lists of the
official validation and test parts.

    yes/0a7c2a8d_nohash_0.wav   a second at 16 kHz; the speaker stands before _nohash_
    validation_list.txt  testing_list.txt     lines `yes/0a7c2a8d_nohash_0.wav`

Folders that begin with `_` (_background_noise_) are no words.
Source: Warden 2018 (arXiv 1804.03209).
"""

from pathlib import Path

from ...errors import DataError
from ..archives import ARCHIVES, SPEECH_COMMANDS
from ..download import fetch, finish_unpacking
from ..folders import Files, class_files
from ..tables import Listed

URL = ARCHIVES[SPEECH_COMMANDS, None].url
LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
# where torchaudio and others extract it, under root
FOLDERS = ("", SPEECH_COMMANDS, f"SpeechCommands/{SPEECH_COMMANDS}", "gsc", "GSC")


def find_archive(root: str, download: bool = False) -> Path:
    """The folder that holds the lists; with `download` it is fetched where there is none. Errors:
    DataError that says where it was looked for."""
    folder = Path(root).expanduser()
    finish_unpacking(folder, SPEECH_COMMANDS)
    found = [place for place in (folder / name for name in FOLDERS) if has_lists(place)]
    if not found and download:
        fetch(folder, SPEECH_COMMANDS, {}, URL)
        found = [folder / SPEECH_COMMANDS] if has_lists(folder / SPEECH_COMMANDS) else []
    if not found:
        state = "is still missing after the download" if download else "is missing"
        raise DataError(
            f"Speech Commands {state}: no {' and '.join(LISTS.values())} in {folder} and "
            f"its folders {', '.join(FOLDERS[1:])}; give --download, or extract {URL} there"
        )
    return found[0]


def has_lists(folder: Path) -> bool:
    """Whether the official lists are there. Errors: DataError if one of the two is missing, whose
    clips would train."""
    lacking = [name for name in LISTS.values() if not (folder / name).is_file()]
    if len(lacking) == 1:
        raise DataError(
            f"{folder} has one list of Speech Commands but no {lacking[0]}: extract it from the "
            "archive again, or remove the other list for a split of our own"
        )
    return not lacking


def list_clips(folder: Path, found: Files | None = None) -> list[Listed]:
    """All clips, in order of word and name, with speaker and official split. `found`: what
    `class_files` found there. Errors: DataError if a list names a clip of a word that is there
    without it, or there is none."""
    found = class_files(folder, (".wav",)) if found is None else found
    files = [path.relative_to(folder).as_posix() for _, path in found]
    if not files:
        raise DataError(f"{folder} has the lists of Speech Commands but no folders of words")
    words, known, split = {path.split("/")[0] for path in files}, set(files), {}
    for part, name in LISTS.items():
        listed = (folder / name).read_text(encoding="utf-8", errors="replace").split("\n")
        listed = [line.strip() for line in listed if line.strip()]
        lacking = [x for x in listed if x.split("/")[0] in words and x not in known]
        if lacking:
            raise DataError(
                f"{folder / name} names {lacking[0]}, which is not there ({len(lacking)} such "
                "files in all): extract the archive again"
            )
        split |= dict.fromkeys(listed, part)
    return [
        Listed(path, *path.split("/")[:1], _speaker(path), split.get(path, "train"))
        for path in files
    ]


def _speaker(path: str) -> str:
    return path.rpartition("/")[2].partition("_nohash_")[0]
