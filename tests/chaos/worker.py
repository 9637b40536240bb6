"""The worker program: `python -m tests.chaos.worker`, started by the battery."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from tests.chaos.evidence import Evidence, wall_time
from tests.chaos.processes import die_with_parent


def main() -> None:
    die_with_parent()
    parser = argparse.ArgumentParser()
    for name in ("peer", "url", "name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--evidence", type=Path, required=True)
    parser.add_argument("--lease-s", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--skew-s", type=float, default=0.0)
    options = parser.parse_args()
    if options.skew_s:
        # Before the queue is imported: it may keep the function that it finds.
        time.time = lambda: wall_time() + options.skew_s
        time.time_ns = lambda: round((wall_time() + options.skew_s) * 1e9)
    from tests.chaos.peers import PEERS  # noqa: PLC0415 (see above)

    # SAQ logs a traceback for each job that fails and each command that is refused.
    logging.basicConfig(
        level=logging.WARNING if options.peer == "queuekit" else logging.CRITICAL,
        format="%(asctime)s %(message)s",
    )
    evidence = Evidence(options.evidence, options.name)

    async def startup(ctx: Any) -> None:
        ctx["evidence"] = evidence

    peer = PEERS[options.peer](options.url, options.lease_s)
    asyncio.run(peer.work(options.name, options.concurrency, startup))


if __name__ == "__main__":
    main()
