"""What a server is set to that a queue should not be left with: looked at once, when a worker starts."""

from __future__ import annotations

import logging
import re

from queuekit.errors import ServerError
from queuekit.store.server import Server
from queuekit.text import gist, one_line

logger = logging.getLogger("queuekit")

OLDEST = (6, 2)
"The oldest version of Redis that the tests run on."


async def advice(server: Server) -> list[str]:
    """What to change, and what could happen otherwise. Never raises for what the server refuses.

    A right that the user lacks (least privilege has no CONFIG), or a command that a managed service
    does not have, is no finding: it is told at debug level.
    """
    if server.embedded:
        return []
    found = [
        _version(await _ask(server, "INFO", "server")),
        _eviction(await _ask(server, "CONFIG", "GET", "maxmemory-policy")),
        _persistence(await _ask(server, "CONFIG", "GET", "appendonly")),
    ]
    return [finding for finding in found if finding]


async def _ask(server: Server, *command: str) -> str:
    """The answer's last word or text, or nothing."""
    try:
        answer = await server.command(*command)
    except ServerError as error:
        logger.debug("%s is not known: %s", one_line(" ".join(command)), gist(str(error)))
        return ""
    last = answer[-1] if isinstance(answer, list) and answer else answer
    return last.decode("utf-8", "replace") if isinstance(last, bytes) else ""


def _version(info: str) -> str:
    # Valkey tells a redis_version too, the one that it is compatible with.
    found = re.search(r"^redis_version:(\d+)\.(\d+)", info, re.MULTILINE)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST:
        return ""
    oldest = ".".join(map(str, OLDEST))
    return (
        f"the server is Redis {found[1]}.{found[2]}, and queuekit is tested from {oldest} on.\n"
        "  What the queue promises is not proved there.\n"
        f"  Upgrade to {oldest} or later, or to Valkey."
    )


def _eviction(policy: str) -> str:
    if policy in ("", "noeviction"):
        return ""
    return (
        f"maxmemory-policy is {policy!r}: when memory is full the server throws away keys, jobs among them.\n"
        "  A queue needs 'noeviction': then enqueues are refused, and nothing is lost.\n"
        "  CONFIG SET maxmemory-policy noeviction, and keep caches on a server of their own."
    )


def _persistence(appendonly: str) -> str:
    if appendonly in ("", "yes"):
        return ""
    return (
        "appendonly is 'no': a restart of the server loses the jobs since its last snapshot.\n"
        "  With the AOF at most the last second is lost, and only when the machine itself fails.\n"
        "  CONFIG SET appendonly yes, and the same in its configuration file."
    )
