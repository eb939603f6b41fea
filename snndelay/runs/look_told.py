"""Figures of the parts of a data set -> what `snndelay data` tells, in JSON's types."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.coverage import coverage_lines, taken_lines
from ..data.figures import Figures, hot, same_events, spread


@dataclass
class Look:
    """`found`: all that is told, in JSON's types. `parts`: the figures it comes from, with the
    samples to show. `classes`, and `size`: (C,) units or (H, W) pixels."""

    found: dict[str, Any]
    parts: list[Figures]
    classes: list[str]
    size: tuple[int, ...]

    @property
    def n_bad(self) -> int:
        """Samples looked at that a run would refuse."""
        return sum(len(part.bad) for part in self.parts)


def told(
    about: dict[str, Any],
    frames: str,
    parts: list[Figures],
    classes: list[str],
    size: tuple[int, ...],
    notes: list[str],
) -> Look:
    """The look at the figures of all parts, added to what is known `about` the set. `frames`: what
    the network sees, in words; `size`: as in Look; `notes`: what else there is to say."""
    rows = [_part(part, classes) for part in parts]
    taken = Counter[str]()
    for part in parts:
        taken.update(part.taken)  # which keeps those that took nothing
    notes = [*notes, *taken_lines(taken, sum(int(part.n_events.sum()) for part in parts))]
    notes += [*coverage_lines([part.held for part in parts if part.held is not None])[1:]]
    groups = same_events(parts)
    of_all = sum((part.counts for part in parts), np.zeros(size, np.int64))
    seconds = sum(float(part.duration_s.sum()) for part in parts)
    found = {
        "frames": frames,
        "classes": classes,
        **({"sensor": list(size)} if len(size) > 1 else {"units": sum(size)}),
        "parts": rows,
        "places": _places(of_all, seconds),
        "duplicates": _duplicates(groups, parts),
        "notes": notes,
    }
    return Look(about | found, parts, classes, size)


def _part(part: Figures, classes: list[str]) -> dict[str, Any]:
    """One part in JSON's types; spreads are 5 %, median, 95 %."""
    n_events, n_left = (int(n.sum()) for n in (part.n_events, part.n_events - part.n_taken))
    counts = np.bincount(part.labels, minlength=len(classes))
    return {
        "name": part.name,
        "samples": len(part.labels),
        "looked_at": len(part.place),
        "per_class": dict(zip(classes, counts.tolist(), strict=True)),
        "events": n_events,
        "events_per_sample": spread(part.n_events[part.n_events > 0]),
        "events_per_second": spread(part.rate_s),
        "duration_s": spread(part.duration_s),
        "first_event_s": spread(part.first_us[part.n_events > 0] / 1e6),
        "lost_share": 1 - int(part.n_inside.sum()) / n_left if n_left else None,
        "polarity_1_share": part.n_on / n_events if part.counts.ndim > 1 and n_events else None,
        "bad": [{"sample": part.identity(i), "why": why} for i, why in sorted(part.bad.items())],
    }


def _places(counts: np.ndarray, seconds: float) -> dict[str, Any]:
    """Rates of units or pixels, the silent ones and the hot."""
    wrong = hot(counts)
    loudest = sorted(np.argwhere(wrong).tolist(), key=lambda at: -counts[tuple(at)])
    total = max(1, int(counts.sum()))
    return {
        "n": counts.size,
        "events_per_second": spread(counts.ravel() / seconds) if seconds else None,
        "silent": int((counts == 0).sum()),
        "hot": len(loudest),
        "hot_share": int(counts[wrong].sum()) / total,
        "hottest": [{"at": at, "share": int(counts[tuple(at)]) / total} for at in loudest[:5]],
    }


def _duplicates(groups: list[list[tuple[int, int]]], parts: list[Figures]) -> dict[str, Any]:
    """Samples with the same events as another one: how many more there are than there should be,
    of other classes, and between which parts."""
    across, labels = Counter(), 0
    for group in groups:
        names = sorted({part for part, _ in group})
        across.update((a, b) for k, a in enumerate(names) for b in names[k + 1 :])
        labels += len({int(parts[part].labels[place]) for part, place in group}) > 1
    first = [[parts[part].identity(place) for part, place in group[:3]] for group in groups[:3]]
    return {
        "groups": len(groups),
        "surplus": sum(len(group) - 1 for group in groups),
        "of_other_classes": labels,
        "between": [
            {"parts": [parts[a].name, parts[b].name], "groups": n} for (a, b), n in across.items()
        ],
        "first": first,
    }
