"""Imported by the process that others are forked from: one tiny training has everything imported
and compiled code loaded, so that each of them starts in a moment.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import numba

from snndelay.runs.training import fit

from ..helpers_runs import settings_of
from ..helpers_training import write_tiny

numba.config.THREADING_LAYER = "workqueue"  # OpenMP's threads do not survive a fork
with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
    _files = write_tiny(Path(place) / "train.h5"), write_tiny(Path(place) / "test.h5", 6, seed=1)
    fit(settings_of("audio", _files, "", "") | {"runs": place}, draw=False)
