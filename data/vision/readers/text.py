"""Text, `t x y p` on every line -> events; `data.text` says how it is written.

Polarities are 0 and 1, or -1 and 1.
Source of the form: Mueggler et al. 2017, arXiv 1610.08336 (events.txt, in seconds).

Legend: n events; `size` is (height, width) in pixels.
"""

from pathlib import Path

from ...events import Events
from ...text import HEAD, header, read_rows
from .arrays import NAMES, two_polarities
from .common import check_size, checked, read_bytes


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
    numbers, or an impossible one.
    """
    rows = read_rows(raw, path, NAMES, time_unit)
    said = rows.size and check_size(rows.size, path, None)
    t_us, x, y, p = rows.columns
    return checked(path, t_us, x, y, two_polarities(p), size or said, rows.line, "line")


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) as a first line `width height` says it, else None. Errors: DataError,
    EventFormatError."""
    with open(path, "rb") as file:
        return sensor_in(file.read(HEAD), str(path))


def sensor_in(raw: bytes, path: str) -> tuple[int, int] | None:
    """As `sensor`, of the first bytes of a text."""
    size = header(raw, path, NAMES).size
    return size and check_size(size, path, None)
