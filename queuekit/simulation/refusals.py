"""What a Redis in a bad state would answer to a command that is about to arrive: an error, or none.

Of a script it is found out by a trial: it runs beside, up to the first of its writes, which is not
executed. What it would have written before it is refused is nothing, then: that write is its first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from queuekit.simulation.command_flags import BY_HASH, SCRIPTS_THAT_WRITE, WRITES, names_of
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.refusal_rules import (
    ERRORS,
    GENERATIONS,
    OF_WRITES,
    Generation,
    is_refused,
    refused_in_scripts,
)

if TYPE_CHECKING:
    from queuekit.simulation.wire import Wire
    from queuekit.simulation.world import Simulation

DEFAULT_SERVER = "redis 8"
"Whose words an error has, if none are asked for: the same on every backend, or traces would differ."

# In one line, so that the script's own lines keep their numbers. PUBLISH is no write, and would be heard.
_BEFORE = (
    "local real, refused, writes, verdict = redis, {%s}, {%s}, false "
    "local function stops(name, sub) "
    "name = string.upper(tostring(name)); local full = name .. '|' .. string.upper(tostring(sub)) "
    "if refused[name] or refused[full] then verdict = 'refused' "
    "elseif writes[name] or writes[full] then verdict = 'passes' end "
    "return verdict end "
    "local function silent(name) name = string.upper(tostring(name)) "
    "return name == 'PUBLISH' or name == 'SPUBLISH' end "
    "local redis = setmetatable({ "
    "call = function(name, ...) if stops(name, (...)) then error('', 2) end "
    "if silent(name) then return 0 end return real.call(name, ...) end, "
    "pcall = function(name, ...) if stops(name, (...)) == 'passes' then error('', 2) end "
    "if verdict then verdict = false return { err = 'refused' } end "
    "if silent(name) then return 0 end return real.pcall(name, ...) end }, { __index = real }) "
    "local script = function() "
)
_AFTER = "\nend\nlocal _, at = pcall(script)\nreturn { verdict or 'passes', tostring(at) }"

_LINE = re.compile(rb":(\d+): ?$")


class Refusals:
    """Asked for each command that an error may strike."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def refusal(
        self, arguments: Mapping[str, Any], command: Sequence[bytes], wire: Wire
    ) -> str | None:
        """The error for a command that is about to arrive on a connection; None if it would pass.

        Args:
            arguments: of the fault: `error`, and `server`, whose words it has.
        """
        if wire.peer is None:
            return None  # it is closed: nothing arrives
        code: str = arguments["error"]
        if code not in ERRORS:
            return code  # a text of the test's own strikes whatever it is asked for
        generation = GENERATIONS[arguments.get("server") or DEFAULT_SERVER]
        if wire.peer is None:
            return None  # the server's end is gone: it hears nothing
        name, _ = names_of(command)
        queued = wire.queued is not None
        text = generation.text(code)
        if name == "EXEC":
            if not is_refused(code, command, generation) and not _holds_refused(
                code, wire, generation
            ):
                return None
            # A server of a Cluster says so itself, and discards what was queued all the same.
            plain = code in ("CLUSTERDOWN", "TRYAGAIN")
            return text if plain else f"EXECABORT Transaction discarded because of: {text}"
        if is_refused(code, command, generation, queued=queued):
            # A script is let in by newer ones, to be refused at its start; one that is not there is not.
            let_in = code == "MASTERDOWN" and name in BY_HASH and name in generation.stale
            return None if let_in and self._source(name, command) is None else text
        if code in OF_WRITES and name in SCRIPTS_THAT_WRITE and not queued:
            return self._of_script(code, name, command, wire, generation)
        return None

    def _of_script(
        self, code: str, name: str, command: Sequence[bytes], wire: Wire, generation: Generation
    ) -> str | None:
        refused = refused_in_scripts(code, generation)
        if not refused or len(command) < 3 or not _has_its_keys(command):
            return None
        source = self._source(name, command)
        if source is None:
            return None  # NOSCRIPT is what it hears
        if source.startswith(b"#!"):
            if not generation.scripts_have_flags:
                return None  # to them it is no Lua
            return self._of_flags(code, source, generation)
        line = self._simulation.loop.in_no_process(self._tried, source, command, wire, refused)
        if line is None:
            return None
        sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
        text = generation.text(code)
        return generation.in_scripts.format(text=text, sha=sha, line=line)

    def _source(self, name: str, command: Sequence[bytes]) -> bytes | None:
        """The text of the script that is called, if the server knows it."""
        if name not in BY_HASH:
            return command[1]
        network = self._simulation.loop.network
        assert network is not None
        return network.script(command[1].lower())

    def _of_flags(self, code: str, source: bytes, generation: Generation) -> str | None:
        """Since 7 a script may say by flags what it does, and is refused at its start then."""
        first = source.partition(b"\n")[0]
        flags = first.partition(b"flags=")[2].split(b" ")[0].split(b",")
        if b"no-writes" in flags or (code == "OOM" and b"allow-oom" in flags):
            return None
        return generation.text(code)

    def _tried(
        self, source: bytes, command: Sequence[bytes], wire: Wire, refused: Collection[str]
    ) -> int | None:
        """The line at which the script is refused; None if it is not."""
        network = self._simulation.loop.network
        assert network is not None
        assert wire.peer is not None
        server_clock = self._simulation.loop.server_clock
        _, *arguments = network.scripts.told_time(list(command), server_clock)[1:]
        database = wire.peer.database
        try:
            reply = network.look(b"EVAL", _trial(source, refused), *arguments, database=database)
        except SimulationError:
            if names_of(command)[0] in BY_HASH:
                raise  # the server has compiled that one
            return None  # it is no Lua: it fails in its own way
        if not isinstance(reply, list) or reply[0] != b"refused":
            return None
        found = _LINE.search(reply[1])
        return int(found[1]) if found else 1


def _has_its_keys(command: Sequence[bytes]) -> bool:
    """Whether a script is called with as many keys as it says: or it is refused for that."""
    return command[2].isdigit() and int(command[2]) <= len(command) - 3


def _holds_refused(code: str, wire: Wire, generation: Generation) -> bool:
    """Whether EXEC would execute what the server refuses by now. Of scripts EXEC's reply tells."""
    within = code == "MASTERDOWN"
    return code != "NOSCRIPT" and any(
        is_refused(code, command, generation, queued=within) for command in wire.queued or ()
    )


def _trial(source: bytes, refused: Collection[str]) -> bytes:
    before = _BEFORE % (_set_of(refused), _set_of(WRITES))
    return before.encode() + source + _AFTER.encode()


def _set_of(names: Collection[str]) -> str:
    return ", ".join(f"['{name}'] = 1" for name in sorted(names))
