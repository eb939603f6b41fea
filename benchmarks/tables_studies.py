"""Tables of the studies, from the grids and lines that benchmarks/studies.py keeps."""

import statistics
from functools import partial

from common import RESULTS
from tables_common import NOT_MEASURED

from snndelay.runs.grid import cells_of
from snndelay.runs.studies import STUDIES
from snndelay.runs.study_file import read_results, read_study
from snndelay.runs.study_table import accuracy_table, difference_table, groups_of


def study(name: str) -> str:
    """Accuracy of every cell, and what kinds of delays differ by."""
    folder = RESULTS / "studies" / name
    if (found := read_study(folder)) is None:
        return NOT_MEASURED
    results = read_results(folder, found)
    groups = groups_of(cells_of(found.base, found.grid), results)
    lines = [*results.values()]
    chance = statistics.mean(1 / line["n_classes"] for line in lines)
    about = (
        f"`snndelay study --preset {name}`: accuracy on n = {lines[0]['n']} test samples after the "
        f"last epoch, delays rounded, protocol {found.base['protocol']}; mean ± standard error "
        f"over seeds; chance {chance:.1%}. Differences in points, p of Welch's test over seeds, "
        "not corrected for the number of comparisons."
    )
    return "\n\n".join(
        part for part in (accuracy_table(groups), difference_table(groups), about) if part
    )


TABLES = {f"study-{name}": partial(study, name) for name in STUDIES}
