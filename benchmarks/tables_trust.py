"""The tables of what a run promises: how often it was tried and held, and what it costs."""

from tables_common import NOT_MEASURED, latest

from snndelay.runs.statistics import table


def trust() -> str:
    """Promises: newest line of each."""
    rows, lines = [], [x for x in latest("trust.jsonl", "promise", "cost") if "promise" in x]
    for x in lines:
        held = f"**{x['held']:,} of {x['tried']:,}**" if x["tried"] else x["why_not"]
        rows.append([x["promise"], x["words"], held, ", ".join(f"`{t}`" for t in x["tests"])])
    if not rows:
        return NOT_MEASURED
    places = dict.fromkeys(f"{x['device']}, torch {x['torch']}" for x in lines)
    commits = dict.fromkeys(f"{x['commit']}" for x in lines)
    about = f"{'; '.join(places)}; commit {', '.join(commits)}."
    return table("promise | what | held | tests", rows, about)


def costs() -> str:
    """Memory and time: newest line of each."""
    lines = {x["cost"]: x for x in latest("trust.jsonl", "promise", "cost") if "cost" in x}
    if not lines:
        return NOT_MEASURED
    a, b, c = (lines[name] for name in ("memory", "guards", "checkpoints"))
    rows = [
        [
            f"resident memory grows in {a['steps']:,} steps with a checkpoint every hundred by",
            f"**{a['growth_bytes'] / 1e6:.1f} MB**",
        ],
        [
            f"guards against NaN and infinity, of a step of {1e3 * b['step_seconds']:.0f} ms",
            f"**{b['of_a_step']:.1%}**",
        ],
        [
            f"checkpoints, one of {c['bytes'] / 1e3:,.0f} kB and {1e3 * c['seconds']:.0f} ms every "
            f"{c['minutes']:g} minutes",
            f"**{c['of_a_step']:.3%}**",
        ],
    ]
    about = (
        f"`{a['preset']}` on {a['device']}, {a['threads']} threads, torch {a['torch']}, commit "
        f"{a['commit']}; medians of {b['rounds']} alternating pairs of steps and of {c['rounds']} "
        "checkpoints."
    )
    return table("what | cost", rows, about)


TABLES = {"trust": trust, "trust-costs": costs}
