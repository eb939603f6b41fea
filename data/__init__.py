"""Files -> events -> batches, in two wings, `audio` and `vision`; nothing of a model is needed.

h5py and torch come with the first name that needs them; `loader`, `augment` and `frames` of a
wing are imported from their modules, so that a module and a function never share a name.
"""

if __name__ == "data":
    raise ImportError("this folder is a part of snndelay: write `import snndelay.data`")

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import DataError, EventFormatError
from .events import Clips, Events

if TYPE_CHECKING:
    from .audio.shd import ShdFile, write_shd
    from .audio.split import split_clips
    from .catalog import DATASETS, kind_of, open_clips, open_images, open_recordings, open_task
    from .vision.split import split_recordings

_LAZY = {
    "DATASETS": "catalog",
    "kind_of": "catalog",
    "open_clips": "catalog",
    "open_recordings": "catalog",
    "open_images": "catalog",
    "open_task": "catalog",
    "split_clips": "audio.split",
    "split_recordings": "vision.split",
    "ShdFile": "audio.shd",
    "write_shd": "audio.shd",
}
__all__ = [
    "DATASETS",
    "Clips",
    "DataError",
    "EventFormatError",
    "Events",
    "ShdFile",
    "kind_of",
    "open_clips",
    "open_images",
    "open_recordings",
    "open_task",
    "split_clips",
    "split_recordings",
    "write_shd",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
