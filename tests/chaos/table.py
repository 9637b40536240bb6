"""The columns, side by side, as text that is a table in a page, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields

from tests.chaos.form import Form
from tests.chaos.poison import Poisoning
from tests.chaos.verdict import Verdict

SHOWN = 5
"Jobs that are listed of each kind of failure; the number is in the table."

LISTED = (
    "lost", "stuck", "unexpected", "changed", "claimed_after_end", "wrong", "unexplained", "lost_by_rule"
)  # fmt: skip

TWICE_LIMIT = 0.001
"Of all jobs, in the form with all faults."

BACK_LIMIT_S = 30


def total(verdicts: Iterable[Verdict]) -> Verdict:
    """Several runs of one form as one."""
    whole = Verdict(back_s=0.0)
    for number, verdict in enumerate(verdicts, 1):
        for field in fields(Verdict):
            ours, theirs = getattr(whole, field.name), getattr(verdict, field.name)
            if field.name == "fired":
                whole.fired = {kind: ours.get(kind, 0) + n for kind, n in theirs.items()}
            elif isinstance(theirs, dict):
                ours.update({f"run {number}: {key}": word for key, word in theirs.items()})
            elif field.name == "back_s":
                whole.back_s = None if None in (ours, theirs) else max(ours, theirs)
            elif field.name == "most_losses":
                whole.most_losses = max(ours, theirs)
            else:
                setattr(whole, field.name, ours + theirs)
    return whole


def rows(verdict: Verdict) -> dict[str, str]:
    """A column."""
    return {
        "jobs acknowledged": f"{verdict.acknowledged:,}",
        "recovered": f"{verdict.recovered:,}",
        "lost": f"{len(verdict.lost):,}",
        "stuck": f"{len(verdict.stuck):,}",
        "changed after terminal": f"{len(verdict.changed):,}",
        "claimed after terminal": _judged(verdict, verdict.claimed_after_end),
        "began after terminal": _judged(verdict, verdict.began_after_end),
        "wrong final state": f"{len(verdict.wrong):,}",
        "unexpected": f"{len(verdict.unexpected):,}",
        "failed by rule (third loss)": f"{len(verdict.lost_by_rule):,}",
        "ran to the end twice": f"{len(verdict.twice):,}"
        f" ({len(verdict.twice) / max(verdict.attempted, 1):.2%})",
        "- without an ended lease": _judged(verdict, verdict.unexplained),
        "- ended after its lease": _judged(verdict, verdict.late),
        "enqueued twice by a client": f"{len(verdict.enqueued_twice):,}",
        "workers that ended by themselves": f"{verdict.ended_by_themselves:,}",
        "all back after the last fault": _back(verdict),
        "the whole took": f"{verdict.seconds:.0f} s",
    }


def _back(verdict: Verdict) -> str:
    if verdict.back_s is None:
        return "not all"
    return f"{verdict.back_s:.1f} s" if verdict.fired else "no fault"


def _judged(verdict: Verdict, found: Mapping[str, str]) -> str:
    return "no one clock" if verdict.of_several_clocks else f"{len(found):,}"


def poison_rows(found: Poisoning) -> dict[str, str]:
    return {
        "workers that died": str(found.deaths),
        "the job that kills": found.end,
        "innocent jobs complete": f"{found.innocents} of 9",
        "the whole took": f"{found.seconds:.0f} s",
    }


def table(title: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    """Columns by their heads, in the form of Markdown."""
    heads = list(columns)
    names = list(next(iter(columns.values())))
    width = max(len(name) for name in names)
    lines = [
        f"**{title}**",
        "",
        f"| {'':{width}} | " + " | ".join(f"{head:>18}" for head in heads) + " |",
        f"| {'-' * width} | " + " | ".join("-" * 17 + ":" for _ in heads) + " |",
    ]
    for name in names:
        cells = " | ".join(f"{columns[head][name]:>18}" for head in heads)
        lines.append(f"| {name:{width}} | {cells} |")
    return "\n".join(lines)


def details(peer: str, verdict: Verdict) -> list[str]:
    """Some jobs of each kind of failure, with their runs."""
    lines = []
    for name in LISTED:
        found = getattr(verdict, name)
        lines += [f"  {peer}, {name}: {key}: {found[key]}" for key in list(found)[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"  {peer}, {name}: and {len(found) - SHOWN} more")
    return lines


def broken(form: Form, verdict: Verdict) -> list[str]:
    """The promises of queuekit's that this battery found broken."""
    found = [
        f"{form.title}: {len(getattr(verdict, name))} {name}, expected none"
        for name in LISTED[:-1]
        if getattr(verdict, name)
    ]
    if not form.faults and (verdict.twice or verdict.ended != verdict.attempted):
        found.append(f"{form.title}: without a fault each job comes to its end exactly once")
    if form.faults and len(verdict.twice) > TWICE_LIMIT * verdict.attempted:
        found.append(
            f"{form.title}: {len(verdict.twice)} of {verdict.attempted} jobs ran to the end twice,"
            f" expected at most {TWICE_LIMIT:.1%}"
        )
    # Without faults it is how long the work takes, which depends on the machine.
    if form.faults and verdict.back_s is not None and verdict.back_s > BACK_LIMIT_S:
        found.append(
            f"{form.title}: all were back after {verdict.back_s:.0f} s, expected {BACK_LIMIT_S}"
        )
    return found
