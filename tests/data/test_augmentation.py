"""What augmentations say about themselves."""

import pytest

from snndelay.data.audio.augment import ABOUT
from snndelay.data.augmentation import Augmentation, markdown
from snndelay.data.vision.augment import AUGMENTATIONS


def test_a_table_by_hand():
    want = "| option | what it does with amount a | source |\n|---|---|---|\n"
    want += "| `--aug-x` | does a | ours |"
    assert markdown({"aug_x": Augmentation("does a", "ours")}) == want


@pytest.mark.parametrize("rows", [ABOUT, AUGMENTATIONS], ids=["audio", "vision"])
def test_every_row_is_whole(rows):
    lines = markdown(rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert all(
        row.what and row.source and line.count("|") == 4
        for row, line in zip(rows.values(), lines[2:], strict=True)
    )
