"""The main job: a shop's background jobs live through a week of virtual time, and you see how.

python -m scenarios.shop [--backend server] [--seed 7]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from queuekit.simulation import JobRecord, Simulation
from scenarios.shop import tasks
from scenarios.shop.week import VISITS_A_DAY, week

START = datetime(2030, 1, 7, tzinfo=UTC)
"A Monday."

BAR = 40
"Characters of the longest bar."


def main() -> int:
    """Live through the week, and tell."""
    options = _options()
    console = Console(highlight=False)
    simulation = Simulation(seed=options.seed, start=START, backend=options.backend)
    console.print(
        f"\n[bold]A week of the shop[/] from {START:%A %d %B %Y}, seed {options.seed}, on {options.backend}\n"
    )
    began = time.perf_counter()
    with simulation:
        simulation.run(week(simulation))
        took = time.perf_counter() - began
        _days(console, simulation)
        _story(console, simulation)
        _outcomes(console, simulation)
        healthy = _promises(console, simulation)
        lived = (simulation.now - START).total_seconds()
        console.print(
            f"\n[bold]{lived / 86_400:.1f} days[/] of virtual time in [bold]{took:.1f} s[/] "
            f"({lived / took:,.0f} times faster), {len(simulation.journal.records):,} jobs, "
            f"{simulation.trace.count:,} lines of trace\n"
            f"trace {simulation.trace.digest()}: the same each time, here and on a real Redis\n"
        )
    return 0 if healthy else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scenarios.shop", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--backend", default="fakeredis", help="fakeredis, server or redis://...")
    return parser.parse_args()


def _days(console: Console, simulation: Simulation) -> None:
    """Jobs that ended on each day, as bars."""
    by_day: dict[str, Counter[str]] = {}
    for record in simulation.journal:
        if record.finished_ms is not None:
            day = _when(record.finished_ms).strftime("%a %d %b")
            by_day.setdefault(day, Counter())[record.status.value] += 1
    most = max(sum(day.values()) for day in by_day.values())
    for day, counts in by_day.items():
        complete = round(BAR * counts["complete"] / most)
        failed = max(1, round(BAR * counts["failed"] / most)) if counts["failed"] else 0
        bar = f"[green]{'█' * complete}[/][red]{'█' * failed}[/]"
        console.print(f"  {day}  {bar} {sum(counts.values())} jobs")


def _story(console: Console, simulation: Simulation) -> None:
    """What one would have been woken for."""
    console.print("\n[bold]What happened[/]")
    charges = [r for r in simulation.journal if r.function == "charge_card"]
    hardest = max(charges, key=lambda record: len(record.attempts))
    _timeline(console, hardest)
    exports = [r for r in simulation.journal if r.function == "export_orders"]
    for export in exports:
        assert export.last is not None
        assert export.last.ended_ms is not None
        minutes = (export.last.ended_ms - export.last.claimed_ms) / 60_000
        console.print(
            f"  {_stamp(export.enqueued_ms)}  [cyan]export_orders[/] ran {minutes:g} min and gave "
            f"{len(export.updates)} signs of life"
        )
    reminders = sum(record.function == "remind" for record in simulation.journal)
    visits = 7 * VISITS_A_DAY
    console.print(
        f"  {visits} visits without an order, {reminders} reminders: "
        f"{visits - reminders} times one was on its way already, under the same key"
    )
    nights = ", ".join(f"{_when(tick.tick_ms):%a %H:%M}" for tick in simulation.journal.ticks)
    console.print(f"  nightly [cyan]clean_up[/] by cron: {nights}")


def _timeline(console: Console, record: JobRecord) -> None:
    """The attempts of one job."""
    console.print(f"  the hardest charge, [cyan]{record.key}[/]:")
    for attempt in record.attempts:
        outcome = attempt.outcome.value if attempt.outcome else "running"
        colour = {"completed": "green", "retried": "yellow"}.get(outcome, "red")
        pause = f", again in {attempt.delay_ms / 1000:g} s" if attempt.delay_ms else ""
        why = f" ({attempt.exception})" if attempt.exception else ""
        console.print(
            f"    {_stamp(attempt.claimed_ms)}  attempt {attempt.number:>2} "
            f"[{colour}]{outcome}[/]{why}{pause}"
        )


def _outcomes(console: Console, simulation: Simulation) -> None:
    """Counts by task and outcome."""
    table = Table(title="Jobs by task", title_justify="left", title_style="bold")
    table.add_column("task")
    for name in ("complete", "failed", "attempts", "retries", "slowest"):
        table.add_column(name, justify="right")
    names = dict.fromkeys(record.function for record in simulation.journal)
    for name in names:
        records = [r for r in simulation.journal if r.function == name]
        statuses = Counter(record.status.value for record in records)
        spans = [r.finished_ms - r.enqueued_ms for r in records if r.finished_ms is not None]
        table.add_row(
            name,
            str(statuses["complete"]),
            f"[red]{statuses['failed']}[/]" if statuses["failed"] else "0",
            str(sum(len(record.attempts) for record in records)),
            str(sum(len(record.retry_delays_ms) for record in records)),
            f"{max(spans) / 1000:,.1f} s",
        )
    console.print()
    console.print(table)


def _promises(console: Console, simulation: Simulation) -> bool:
    """What must hold at the end of the week."""
    charges = [r for r in simulation.journal if r.function == "charge_card"]
    receipts = Counter(to for to, template in tasks.outbox.sent if template == "receipt")
    checks = {
        "every order was charged exactly once": len(tasks.gateway.charges) == len(charges),
        "every order got exactly one receipt": sorted(receipts.values()) == [1] * len(charges),
        "no job was left undone": all(record.finished for record in simulation.journal),
        "the gateway failed, and retries bridged it": tasks.gateway.refused > 0,
        "the clean-up ran every night": len(simulation.journal.ticks) == 7,
    }
    console.print("\n[bold]What must hold[/]")
    for what, holds in checks.items():
        console.print(f"  {'[green]yes[/]' if holds else '[red]NO [/]'}  {what}")
    console.print(f"       (the gateway refused {tasks.gateway.refused} charges)")
    return all(checks.values())


def _when(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def _stamp(epoch_ms: int) -> str:
    return f"{_when(epoch_ms):%a %H:%M:%S}"


if __name__ == "__main__":
    raise SystemExit(main())
