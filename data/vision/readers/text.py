"""Text, `t x y p` on every line -> events; `data.text` says how it is written.

Polarities are 0 and 1, or -1 and 1.
Source of the form: Mueggler et al. 2017, arXiv 1610.08336 (events.txt, in seconds).

Legend: n events; `size` is (height, width) in pixels.
"""

from pathlib import Path

import numpy as np

from ....errors import EventFormatError
from ...events import Events
from ...text import HEAD, header, read_rows
from .arrays import NAMES, two_polarities
from .common import check_size, checked, read_bytes

FEWEST, UNORDERED = 8, 0.1  # events, and the part of their times that fall, that are no accident


def read_text(
    path: str | Path, size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events:
    """Events of a text file; see `parse_text`, and DataError if it cannot be read."""
    return parse_text(read_bytes(path), str(path), size, time_unit)


def parse_text(
    raw: bytes, path: str = "", size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events:
    """Events of a text in its order.

    `size`: (H, W) of the sensor, None: as a first line says, else 2048 x 2048. `time_unit`: as
    `read_rows` takes it. Errors: EventFormatError that names the line that is no event of four
    numbers, or an impossible one, or where another column than the first must be the times.
    """
    rows = read_rows(raw, path, NAMES, time_unit)
    said = rows.size and check_size(rows.size, path, None)
    t_us, x, y, p = rows.columns
    if not header(raw, path, NAMES).named:
        _check_order(path, t_us, x, y)
    return checked(path, t_us, x, y, two_polarities(p), size or said, rows.line, "line")


def _check_order(path: str, t_us: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """EventFormatError if times are in no order and a column that is taken for places is, as in
    text of x y t p. A few times may always come late."""
    falls = np.diff(t_us) < 0
    if len(t_us) < FEWEST or falls.mean() < UNORDERED:
        return
    for column, place, order in (("second", x, "x t y p"), ("third", y, "x y t p")):
        if place[0] < place[-1] and (np.diff(place) >= 0).all():
            raise EventFormatError(
                path,
                None,
                f"its first column is in no order and its {column} goes on as times do: name the "
                f"columns in a first line, {order} or t x y p",
            )


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) as a first line `width height` says it, else None. Errors: DataError,
    EventFormatError."""
    with open(path, "rb") as file:
        return sensor_in(file.read(HEAD), str(path))


def sensor_in(raw: bytes, path: str) -> tuple[int, int] | None:
    """As `sensor`, of the first bytes of a text."""
    size = header(raw, path, NAMES).size
    return size and check_size(size, path, None)
