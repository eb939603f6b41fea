"""What the augmentations of both wings say about themselves, for help and docs."""

from collections.abc import Mapping
from typing import NamedTuple


class Augmentation(NamedTuple):
    """A row: what an option does, for its amount a, and where it comes from."""

    what: str
    source: str


def markdown(rows: Mapping[str, Augmentation]) -> str:
    """Rows by option (`aug_drop`) -> a table for the docs."""
    lines = ["| option | what it does with amount a | source |", "|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| `--{name.replace('_', '-')}` | {row.what} | {row.source} |")
    return "\n".join(lines)
