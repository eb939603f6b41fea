"""The studies that have a name: data, grid and the settings that are not those of the preset."""

import textwrap
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NamedStudy:
    """What `snndelay study --preset NAME` trains: the same as on a command line."""

    note: str  # its line in --list
    data: str  # a data set or a preset of train.py
    grid: dict[str, str]  # axis -> its values, as after --grid
    settings: dict[str, Any] = field(default_factory=dict)  # options


STUDIES: dict[str, NamedStudy] = {
    "digits": NamedStudy(
        note="what delays bring on the spoken digits of the package, by the width of the network",
        data="spoken-digits",
        grid={"delays": "learned,fixed,none", "n_hidden": "16,32,64", "seed": "0,1,2,3,4"},
        settings={"epochs": 12},
    ),
    "timing": NamedStudy(
        note="the spoken digits with two spikes on every unit, so that no count tells a word",
        data="spoken-digits",
        grid={"delays": "learned,fixed,none", "seed": "0,1,2,3,4"},
        settings={"spikes_per_unit": 2},
    ),
    "fan-in": NamedStudy(
        note="orders of firing, by the number of units that a neuron hears: few synapses have "
        "to have the right delays",
        data="polychrony",
        grid={"delays": "learned,fixed,none", "fan_in": "2,4,8", "seed": "0,1,2,3,4"},
    ),
    "kinds": NamedStudy(
        note="orders of firing, by what has a delay of its own: synapses, axons, dendrites",
        data="polychrony",
        grid={
            "delay_kind": "synaptic,axonal,dendritic,common,hybrid",
            "delays": "learned,fixed",
            "seed": "0,1,2,3,4",
        },
    ),
    "weights": NamedStudy(
        note="orders of firing, with weights that are coarse or not trained at all",
        data="polychrony",
        grid={
            "weights": "learned,frozen",
            "weight_bits": "ternary,8,null",
            "delays": "learned,fixed",
            "seed": "0,1,2",
        },
    ),
    "recurrent": NamedStudy(
        note="a sound 50 silent steps before a cue, by the delays within a recurrent layer",
        data="al",
        grid={"delays": "learned,fixed,none", "seed": "0,1,2,3,4,5,6,7,8,9"},
    ),
    "directions": NamedStudy(
        note="directions of sound, by the longest delay",
        data="localisation",
        grid={
            "delays": "learned,fixed,none",
            "max_delay_steps": "6,11,21",
            "seed": "0,1,2",
        },
    ),
}


def listing() -> str:
    """Every named study with its grid, for `snndelay study --list`."""
    lines = ["studies"]
    for name, study in STUDIES.items():
        first, *more = textwrap.wrap(study.note, 68)
        grid = " ".join(f"--grid {axis}={values}" for axis, values in study.grid.items())
        lines += [f"  {name:15s}{first}", *(" " * 17 + line for line in [*more, grid])]
    return "\n".join(lines)
