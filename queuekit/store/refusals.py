"""What redis-py raises, put into queuekit's words: what happened, what became of the command, what to do."""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Iterator
from typing import TypeGuard

from redis import exceptions

from queuekit.errors import ServerRefusedError, ServerUnreachableError

REDIS_ERRORS = (exceptions.RedisError, OSError)
"Whatever redis-py raises for a server that is away or refuses; none of it leaves the store."

TRANSIENT = frozenset(
    "LOADING BUSY TRYAGAIN ASK MOVED CLUSTERDOWN MASTERDOWN READONLY MAXCLIENTS".split()
)
"Refusals that often pass by themselves; a command that got one was not executed."

LEAVES_SERVER = frozenset("READONLY CLUSTERDOWN MASTERDOWN".split())
"Of these, the ones after which the queue is to be looked for anew: another server may have it now."

_WHY = {
    "OOM": (
        "its memory is full (maxmemory)",
        "Free memory or raise maxmemory. Workers still finish what they run.",
    ),
    "READONLY": (
        "it is a replica",
        "Give the address of the primary; with a sentinel:// address it is found by itself.",
    ),
    "MISCONF": (
        "it cannot save its data, and takes no writes until it can",
        "Look into its log and at its disk: a snapshot or the AOF could not be written.",
    ),
    "NOREPLICAS": (
        "too few of its replicas are there (min-replicas-to-write)",
        "Bring the replicas back, or lower that setting.",
    ),
    "NOPERM": (
        "the user of this address lacks a right",
        "Compare its rights with the ACL line in docs/production.md.",
    ),
    "NOAUTH": (
        "it asks for a password, and the address has none",
        "Put user and password into the address, or pass password=.",
    ),
    "WRONGPASS": (
        "the user or the password of the address is wrong",
        "Correct the address. If the password was changed, restart what still has the old one.",
    ),
    "BUSY": (
        "a script of somebody's runs there without end",
        "Find it in the server's slow log; SCRIPT KILL ends it.",
    ),
    "LOADING": ("it reads its data after a start", "Wait; a large data set takes its time."),
    "MAXCLIENTS": (
        "it has as many connections as it allows (maxclients)",
        "Raise maxclients, or find who opens so many: CLIENT LIST.",
    ),
    "CLUSTERDOWN": (
        "the Cluster does not serve this queue's slot",
        "See CLUSTER INFO and CLUSTER SLOTS on its servers.",
    ),
    "MASTERDOWN": ("it is a replica that has lost its primary", "Wait for the failover."),
    "TRYAGAIN": ("this queue's slot is being moved", "Wait until the Cluster has moved the slot."),
    "ASK": ("this queue's slot is being moved", "Wait until the Cluster has moved the slot."),
    "MOVED": (
        "it belongs to a Cluster, and another server of that has this queue",
        "Give the address as rediscluster://host:port.",
    ),
}
"Code of a refusal: what is the matter, and what to do."

_OTHER = "That is new to queuekit; the server's own words are above."

_BY_CLASS: list[tuple[type[Exception], str]] = [
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.MovedError, "MOVED"),
    (exceptions.AskError, "ASK"),
]
"redis-py takes the code off the text of errors that it knows; which it knows differs with its version."

# At the beginning, or where a script of Redis 6.2 quotes the error of its command.
_CODE = re.compile(rf"(?:^|: -)({'|'.join(_WHY)})\b")
_PLACE = re.compile(r"(\S+):(\d+)$")


def code_of(error: BaseException) -> str | None:
    """The code of a refusal; None: no refusal, the connection was lost."""
    # redis-py 8 wraps a refusal that it met while it connected into a lost connection.
    while type(error) is exceptions.ConnectionError and _is_refusal(error.__cause__):
        error = error.__cause__
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    text = str(error)
    if found := _CODE.search(text):
        return found[1]
    if isinstance(error, exceptions.AuthenticationError):
        return "NOAUTH" if "required" in text else "WRONGPASS"
    if "max number of clients" in text:
        return "MAXCLIENTS"
    lost = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
    return None if isinstance(error, lost) else "ERR"


def _is_refusal(error: BaseException | None) -> TypeGuard[exceptions.RedisError]:
    return isinstance(error, exceptions.RedisError)


def place_in(error: BaseException) -> tuple[str, int] | None:
    """Where MOVED leads; None: it does not say."""
    found = _PLACE.search(str(error))
    return (found[1], int(found[2])) if found else None


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of; redis-py puts errors of the system into its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _has_no_descriptor(error: BaseException) -> bool:
    return any(isinstance(e, OSError) and e.errno == errno.EMFILE for e in _behind(error))


def _reason_of(error: BaseException) -> str:
    """Why a connection was lost."""
    text = str(error) or "no answer in time"
    if _has_no_descriptor(error):
        return f"this process has no file descriptor left ({text})"
    # redis-py 5 says "Error 1" and a "1" for whatever is wrong with a certificate.
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError) and str(cause) not in text:
        text = f"{text} {cause}"
    return text


def unreachable(shown: str, error: BaseException, *, sent: bool) -> ServerUnreachableError:
    """The error for a command that was not answered."""
    reason = _reason_of(error)
    if not sent:
        what_to_do = "See that the server runs and that the address is right; then call again."
        if _has_no_descriptor(error):
            what_to_do = (
                "Close files and connections that it leaves open, or raise its limit (ulimit -n)."
            )
        return ServerUnreachableError(
            f"Redis at {shown} cannot be reached: {reason}\n"
            "  The command was never sent: nothing was stored.\n"
            f"  {what_to_do}"
        )
    return ServerUnreachableError(
        f"Redis at {shown} did not answer: {reason}\n"
        "  The command was sent: it may have been executed, or not.\n"
        "  To repeat an enqueue, make a Job and enqueue that same object again: it makes no second job.",
        may_have_happened=True,
    )


def refused(
    shown: str, code: str, error: BaseException | str, *, sent: bool = False
) -> ServerRefusedError:
    """The error for a command that Redis refused. `sent`: an earlier try of it may have happened."""
    why, what_to_do = _WHY.get(code, ("", _OTHER))
    said = f": {why}" if why else ""
    became = "this command stored nothing."
    if sent:
        became = "but an earlier try of this command was not answered: it may have been executed."
    return ServerRefusedError(
        f"Redis at {shown} refuses with {code}{said} ({error}).\n"
        f"  What was there already is untouched, {became}\n"
        f"  {what_to_do}",
        code=code,
        may_have_happened=sent,
    )
