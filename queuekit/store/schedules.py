"""What Redis knows of cron schedules: by what they tick, and up to when their ticks are handled."""

from __future__ import annotations

from collections.abc import Sequence

from queuekit.store.redis import BATCH, Store


async def adopt(
    store: Store, worker: str, timetables: Sequence[tuple[str, str]]
) -> tuple[int, list[int]]:
    """Take up schedules, each an id and a timetable.

    Returns:
        The server's time, and for each schedule the moment up to which its ticks are handled, in ms.
    """
    now, since = 0, []
    for begin in range(0, len(timetables), BATCH):
        flat = [word for pair in timetables[begin : begin + BATCH] for word in pair]
        now, *moments = await store.run("adopt", worker, *flat)
        since += moments
    return now, since
