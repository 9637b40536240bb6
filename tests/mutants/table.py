"""What is known of each mutant, and how docs/mutants.md shows it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median

from tests.mutants.catalogue import HERE, catalogue, equivalent
from tests.mutants.hunt import Hunted

KNOWN = HERE / "found.jsonl"
PAGE = HERE.parents[1] / "docs" / "mutants.md"
BEGIN, END = "<!-- made by `make mutants` -->", "<!-- end of what is made -->"


def known(path: Path = KNOWN) -> dict[str, Hunted]:
    """What the last hunts came to, by mutant; what is no mutant any more is left out."""
    if not path.exists():
        return {}
    lines = path.read_text("utf-8").splitlines()
    hunted = [Hunted(**json.loads(line)) for line in lines]
    return {each.mutant: each for each in hunted if each.mutant in catalogue()}


def keep(hunted: dict[str, Hunted], path: Path = KNOWN) -> None:
    """Write them down, in the order of the catalogue."""
    lines = [json.dumps(asdict(hunted[name])) for name in catalogue() if name in hunted]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def totals(hunted: dict[str, Hunted]) -> str:
    """In some lines: how many there are, how many were found, and by which promise."""
    reasons = equivalent()
    judged = {name: each for name, each in hunted.items() if name not in reasons}
    found = [each for each in judged.values() if each.found]
    survived = [name for name, each in judged.items() if not each.found]
    lines = [
        f"{len(catalogue())} mutants; {len(reasons)} of them break no promise that a run could show.",
    ]
    lines.append(f"Of the others {len(judged)} were hunted, and {len(found)} found.")
    if found:
        promises = Counter(each.promise.partition(":")[0] for each in found)
        costs, seconds = [each.runs for each in found], [each.seconds for each in found]
        lines.append(
            f"The median took {median(costs):g} runs and {median(seconds):.1f} s of the processor,"
        )
        lines.append(f"the slowest {max(costs)} runs or {max(seconds):.1f} s.")
        told = ", ".join(f"{promise} {n}" for promise, n in sorted(promises.items()))
        lines.append(f"First broken: {told}.")
    left = len(catalogue()) - len(reasons) - len(judged)
    if left:
        lines.append(f"Not hunted yet: {left}.")
    if survived:
        lines.append(f"Not found: {len(survived)}.")
    return "\n".join(lines)


def section(hunted: dict[str, Hunted]) -> str:
    """The generated part of the page."""
    reasons = equivalent()
    rows = [
        "| mutant | promise | story | seed | runs | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in catalogue():
        each = hunted.get(name)
        if each is None or name in reasons:
            continue
        told = f"{each.promise} | {each.story} | {each.seed}" if each.found else "**not found** | |"
        rows.append(f"| `{_cell(name)}` | {told} | {each.runs} | {each.seconds:.1f} |")
    alike: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        alike.setdefault(reason, []).append(f"`{_cell(name)}`")
    listed = [f"- {reason} {', '.join(names)}" for reason, names in alike.items()]
    return "\n".join(
        [totals(hunted), "", *rows, "", "## Mutants that break no promise", "", *listed, ""]
    )


def write_page(hunted: dict[str, Hunted]) -> None:
    """Put the table into docs/mutants.md, in place of the one that is there."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{section(hunted)}\n{END}{after}", "utf-8")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")
