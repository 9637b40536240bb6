"""Which commands a Redis in a bad state refuses, and in which words: measured, for three generations.

A server decides by the flags of its commands. Of scripts this says which of their commands would be
refused; `refusals.py` finds out whether a script gets there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from queuekit.simulation.command_flags import (
    ALLOCATES,
    BY_HASH,
    KEYLESS,
    OF_TRANSACTIONS,
    SCRIPTS,
    TAKE_SEVERAL_KEYS,
    WRITES,
    names_of,
    number_of_keys,
    words_of,
)

_MISCONF = (
    "MISCONF {name} is configured to save RDB snapshots, but {unable} persist {where} disk. Commands that"
    " may modify the data set are disabled, because this instance is configured to report errors during"
    " writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the {name} logs"
    " for details about the RDB error."
)

ERRORS: Mapping[str, str] = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF": _MISCONF.format(name="Redis", unable="it's currently unable to", where="to"),
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOSCRIPT": "NOSCRIPT No matching script.",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
}
"Errors that a server may answer with at any time, by their codes; the command is not executed then."

OF_WRITES = frozenset({"READONLY", "OOM", "MISCONF", "NOREPLICAS"})
"Errors that a script meets at the first of its writes; others refuse it at its start, or not at all."


_LOADING = words_of(
    """
    ACL AUTH CLIENT COMMAND CONFIG DEBUG DISCARD EXEC HELLO INFO LASTSAVE LATENCY MONITOR MULTI
    PSUBSCRIBE PUBLISH PUBSUB PUNSUBSCRIBE QUIT REPLCONF RESET ROLE SELECT SHUTDOWN SLOWLOG
    SUBSCRIBE TIME UNSUBSCRIBE UNWATCH WATCH
    """
)
_LOADING_SINCE_7 = _LOADING | words_of(
    """
    CLUSTER|HELP CLUSTER|SHARDS CLUSTER|SLOT-STATS CLUSTER|SLOTS ECHO FUNCTION|HELP MEMORY|HELP
    MODULE|HELP OBJECT|HELP READONLY READWRITE SCRIPT|HELP SPUBLISH SSUBSCRIBE SUNSUBSCRIBE
    XGROUP|HELP XINFO|HELP
    """
)
_BUSY = words_of("AUTH DISCARD HELLO MULTI QUIT REPLCONF RESET SCRIPT|KILL SHUTDOWN UNWATCH WATCH")
_BUSY_SINCE_7 = _BUSY | words_of("FUNCTION|KILL FUNCTION|STATS")
_STALE = _LOADING | words_of("CLUSTER FAILOVER REPLICAOF SLAVEOF")
_STALE_SINCE_7 = _STALE | _LOADING_SINCE_7 | SCRIPTS


@dataclass(frozen=True)
class Generation:
    """How the servers of one generation refuse."""

    texts: Mapping[str, str]
    "By code, where the words are not those of `ERRORS`."
    in_scripts: str
    "What a script answers that was refused at a line; with the `text`, the script's `sha` and the `line`."
    loading: Collection[str]
    "What passes while the data is read; `SCRIPT|KILL` is one of a command's subcommands."
    busy: Collection[str]
    "What passes while a script does not end."
    stale: Collection[str]
    "What passes on a replica that has lost its primary."
    writes: Collection[str] = WRITES
    allocates: Collection[str] = ALLOCATES
    replicas_count_in_scripts: bool = True
    "Whether a script's writes wait for replicas, too (min-replicas-to-write)."
    scripts_have_flags: bool = True
    "Whether a script can say in its first line (`#!lua flags=no-writes`) what it does."
    full_memory_ends_transactions: bool = False
    "Whether a full server refuses whatever comes inside MULTI."

    def text(self, code: str) -> str:
        """The error that a command is answered with."""
        return self.texts.get(code, ERRORS.get(code, code))


GENERATIONS: Mapping[str, Generation] = {
    "redis 8": Generation(
        texts={},
        in_scripts="{text} script: {sha}, on @user_script:{line}.",
        loading=_LOADING_SINCE_7,
        busy=_BUSY_SINCE_7,
        stale=_STALE_SINCE_7 | words_of("SCRIPT|LOAD"),
    ),
    "redis 6.2": Generation(
        texts={
            "NOSCRIPT": "NOSCRIPT No matching script. Please use EVAL.",
            "MISCONF": _MISCONF.format(
                name="Redis", unable="it is currently not able to", where="on"
            ),
        },
        in_scripts="ERR Error running script (call to f_{sha}): @user_script:{line}:"
        " @user_script: {line}: -{text}",
        loading=_LOADING,
        busy=_BUSY,
        stale=_STALE | words_of("PING"),
        writes=WRITES | {"XGROUP"},  # whichever of its subcommands
        allocates=ALLOCATES | {"XGROUP"},
        replicas_count_in_scripts=False,
        scripts_have_flags=False,
        full_memory_ends_transactions=True,
    ),
    "valkey 9": Generation(
        texts={
            "LOADING": "LOADING Valkey is loading the dataset in memory",
            "BUSY": "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "MISCONF": _MISCONF.format(
                name="Valkey", unable="it's currently unable to", where="to"
            ),
        },
        in_scripts="{text} script: on @user_script:{line}.",
        loading=_LOADING_SINCE_7
        | words_of(
            """
            CLUSTER|INFO CLUSTER|MYID CLUSTER|MYSHARDID CLUSTER|NODES COMMANDLOG MEMORY|MALLOC-STATS
            MEMORY|PURGE
            """
        ),
        busy=_BUSY_SINCE_7
        | words_of(
            """
            CLIENT|CACHING CLIENT|CAPA CLIENT|GETNAME CLIENT|GETREDIR CLIENT|ID CLIENT|NO-EVICT
            CLIENT|NO-TOUCH CLIENT|REPLY CLIENT|SETINFO CLIENT|SETNAME SELECT
            """
        ),
        stale=_STALE_SINCE_7
        | words_of("COMMANDLOG SCRIPT|EXISTS SCRIPT|FLUSH SCRIPT|LOAD SCRIPT|SHOW"),
    ),
}
"By the word of a fault's argument `server`."

STATES: Mapping[str, tuple[str, str]] = {
    "LOADING": ("that reads its data", "all but what tells about the server or a connection"),
    "READONLY": ("that is a replica", "writes, and scripts that write"),
    "OOM": (
        "whose memory is full",
        "writes that may need memory, and scripts whose first write does (enqueue, cron, restore)",
    ),
    "BUSY": ("whose script does not end", "all but what ends the script or says who connects"),
    "MISCONF": ("that cannot save", "writes, scripts that write, and PING"),
    "NOREPLICAS": (
        "whose replicas are too few",
        "writes, and scripts that write (before 7 not them)",
    ),
    "MASTERDOWN": (
        "that has lost its primary",
        "reads, and scripts; to a write it says READONLY, as any replica does",
    ),
    "NOSCRIPT": ("that has forgotten its scripts", "scripts that are called by their hash"),
    "TRYAGAIN": ("that moves a slot", "commands of several keys; queuekit's scripts name one"),
    "CLUSTERDOWN": ("whose Cluster is down", "commands that have a key"),
}
"By code: what is the matter with the server, and what it refuses then."

OUR_SCRIPTS: Mapping[str, str] = {
    **dict.fromkeys(("enqueue", "cron", "restore"), "allocates"),
    "read": "reads",
    **dict.fromkeys(
        "abort adopt claim commit discard expire expired pass_on register renew update".split(),
        "frees",
    ),
}
"queuekit's own, by what the first write of each does, where it comes to one."


def is_refused(
    code: str, words: Sequence[bytes], generation: Generation, *, queued: bool = False
) -> bool:
    """Whether a server in that state refuses this command when it comes.

    Of a script, whether it does not even start it.

    Args:
        code: one of `ERRORS`.
        words: the command.
        generation: of which the server is.
        queued: whether it comes inside MULTI, to be executed by EXEC.
    """
    name, full = names_of(words)
    if code == "LOADING":
        return {name, full}.isdisjoint(generation.loading)
    if code == "BUSY":
        return {name, full}.isdisjoint(generation.busy)
    writes = not {name, full}.isdisjoint(generation.writes)
    if code == "MASTERDOWN":
        # A write is refused as on any replica. Since 7 a script is let in, and refused then.
        if name in SCRIPTS:
            return not queued or name not in generation.stale
        return not writes and {name, full}.isdisjoint(generation.stale)
    if code == "NOSCRIPT":
        return name in BY_HASH and not queued
    if code == "CLUSTERDOWN":
        return number_of_keys(words, name) > 0
    if code == "TRYAGAIN":
        return number_of_keys(words, name) > 1
    if code == "OOM":
        all_refused = queued and generation.full_memory_ends_transactions
        allocates = not {name, full}.isdisjoint(generation.allocates)
        return allocates or (all_refused and name not in OF_TRANSACTIONS)
    return writes or (code == "MISCONF" and name == "PING")


def refused_in_scripts(code: str, generation: Generation) -> Collection[str]:
    """The commands that it refuses to a script, as long as that has written nothing."""
    if code not in OF_WRITES or (code == "NOREPLICAS" and not generation.replicas_count_in_scripts):
        return frozenset()
    return generation.allocates if code == "OOM" else generation.writes


KNOWN_COMMANDS = frozenset(
    name.partition("|")[0]
    for names in (
        WRITES,
        ALLOCATES,
        KEYLESS,
        TAKE_SEVERAL_KEYS,
        OF_TRANSACTIONS,
        SCRIPTS,
        *(kind.stale | kind.busy for kind in GENERATIONS.values()),  # type: ignore[operator]
    )
    for name in names
)
"Commands that something is said of here; the embedded server knows others."


def never_refused(code: str, command: str, generation: Generation) -> bool:
    """Whether a server in that state lets all commands of this name through, as far as a name tells."""
    kind = OUR_SCRIPTS.get(command.lower())
    if kind is None and not command.isupper():
        return False  # a script that we do not know
    by_script = kind is None or _script_is_never_refused(code, kind, generation)
    name = command.upper()
    if name == "EXEC":
        return code == "NOSCRIPT"  # what is queued decides
    if kind is not None and name not in WRITES:
        return by_script
    return by_script and _command_is_never_refused(code, name, generation)


def _script_is_never_refused(code: str, kind: str, generation: Generation) -> bool:
    if code in OF_WRITES:
        refuses = bool(refused_in_scripts(code, generation))
        return not refuses or kind == "reads" or (code == "OOM" and kind == "frees")
    return code == "TRYAGAIN"  # each has one key: the queue's root


def _command_is_never_refused(code: str, name: str, generation: Generation) -> bool:
    if code in OF_WRITES:
        if code == "OOM" and generation.full_memory_ends_transactions:
            return name in OF_TRANSACTIONS
        refused = generation.allocates if code == "OOM" else generation.writes
        of_it = any(each == name or each.startswith(f"{name}|") for each in refused)
        return not of_it and not (code == "MISCONF" and name == "PING")
    if code == "NOSCRIPT":
        return True  # a script goes by its own name
    if code == "CLUSTERDOWN":
        return name in KEYLESS
    if code == "TRYAGAIN":
        return name not in TAKE_SEVERAL_KEYS
    return not is_refused(code, [name.encode()], generation)
