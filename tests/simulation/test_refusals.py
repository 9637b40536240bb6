"""An error of a server in a bad state: on which commands, and in which words, as real servers have it."""

from __future__ import annotations

import asyncio
import datetime

import pytest

from queuekit.errors import ServerRefusedError
from queuekit.simulation import Hop, Simulation
from queuekit.simulation.command_flags import KEYLESS
from queuekit.simulation.refusal_rules import ERRORS, GENERATIONS, OUR_SCRIPTS, never_refused
from queuekit.simulation.resp import Error, Splitter, encode_command
from queuekit.store import scripts
from tests.simulation.bad_states import (
    PROGRAMS,
    TURNED_ON,
    a_server_that_can_turn_bad,
    cluster_down,
    loading,
    replies,
)
from tests.store.cases import NOW, TWICE, finished
from tests.store.servers import SCRIPTS as OURS
from tests.store.servers import Answerer, call_of, encoded

READS_FIRST = "redis.call('GET', 'k')\nredis.call('SET', 'k', '1')\nreturn 1"
FREES_FIRST = "\nredis.call('ZREM', 'z', '')\nredis.call('SET', 'k', '1')\nreturn 1"
READS_ONLY = "return redis.call('GET', 'k')"
CATCHES = "local got = redis.pcall('SET', 'k', '1')\nreturn got.err and 'caught' or 'done'"
TELLS_FIRST = "redis.call('PUBLISH', 'c', 'm')\nredis.call('set', KEYS[1], ARGV[1])\nreturn 1"
FLAGGED = "#!lua flags=allow-oom\nredis.call('SET', 'k', '1')\nreturn 1"
SAYS_NOTHING = "#!lua\nreturn 1"

COMMANDS = [
    ("PING",),
    ("ECHO", "a"),
    ("TIME",),
    ("GET", "k"),
    ("SET", "k", "1"),
    ("set", "k", "1"),
    ("DEL", "k"),
    ("DEL", "k", "l"),
    ("MGET", "k", "l"),
    ("EXPIRE", "k", "100"),
    ("RPUSH", "list", "1"),
    ("BLPOP", "list", "0.01"),
    ("ZRANGE", "z", 0, -1),
    ("ZREM", "z", "a"),
    ("ZADD", "z", 1, "a"),
    ("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"),
    ("XGROUP", "DESTROY", "s", "g"),
    ("XADD", "s", "*", "a", "b"),
    ("DBSIZE",),
    ("PUBLISH", "c", "m"),
    ("SUBSCRIBE", "c"),
    ("UNSUBSCRIBE", "c"),
    ("SELECT", "0"),
    ("CLIENT", "ID"),
    ("CLIENT", "SETNAME", "me"),
    ("INFO", "server"),
    ("EVAL", READS_FIRST, 1, "k"),
    ("EVAL", FREES_FIRST, 1, "k"),
    ("EVAL", READS_ONLY, 1, "k"),
    ("EVAL", CATCHES, 1, "k"),
    ("EVAL", TELLS_FIRST, 1, "k", "2"),
    ("EVAL", "return redis.call('SET', 'k', '1')", 0),
    ("EVAL", "this is no Lua", 0),
    ("EVALSHA", "0" * 40, 1, "k"),
    ("SCRIPT", "LOAD", READS_FIRST),
    ("EVALSHA", scripts.sha_of(READS_FIRST), 1, "k"),
    ("SCRIPT", "EXISTS", "0" * 40),
    ("MULTI",),
    ("GET", "k"),
    ("EXEC",),
    ("MULTI",),
    ("SET", "k", "1"),
    ("GET", "k"),
    ("EXEC",),
    ("MULTI",),
    ("EVAL", READS_ONLY, 1, "k"),
    ("DISCARD",),
    ("WATCH", "k"),
    ("UNWATCH",),
    ("MULTI",),
    ("EXEC",),
    ("HELLO", "2"),
]
"What a connection sends to a server in a bad state, one after the other."

MIXED = {"MEMORY", "OBJECT", "XGROUP", "XINFO"}


@pytest.fixture(scope="module", params=PROGRAMS)
def generation(request):
    return request.param


@pytest.fixture(scope="module")
def bad(generation):
    with a_server_that_can_turn_bad(PROGRAMS[generation]) as server:
        yield server


@pytest.fixture
def server(bad):
    bad.ask("FLUSHALL")
    return bad


def test_there_are_servers_of_each_generation():
    assert set(PROGRAMS) == set(GENERATIONS)


# -- the tables


def flags_of(real):
    """By name in the tables: the flags of each command, its subcommands too, and its first key."""
    found = {}
    for command in real.ask("COMMAND"):
        below = command[9] if len(command) > 9 else []
        for name, _, flags, first, *_ in [command, *below]:
            said = {flag if isinstance(flag, str) else flag.decode() for flag in flags}
            found[name.decode().upper()] = said, first, bool(below) and name == command[0]
    return {name: told for name, told in found.items() if name not in ("HOST:", "POST")}


def listed(name, names):
    return name in names or name.partition("|")[0] in names


def test_the_tables_have_the_flags_that_servers_tell(bad, generation):
    told = flags_of(bad.real)
    rules = GENERATIONS[generation]
    tables = {
        "write": rules.writes,
        "denyoom": rules.allocates,
        "loading": rules.loading,
        "stale": rules.stale,
    }
    if generation != "redis 6.2":  # it had no flag for it
        tables["allow_busy"] = rules.busy
    wrong = [
        (flag, name)
        for name, (flags, _, contains) in told.items()
        for flag, names in tables.items()
        if not contains and (flag in flags) is not listed(name, names)
        if flag != "stale" or "write" not in flags  # READONLY comes first
    ]
    assert wrong == []


def test_commands_without_keys_are_those_that_servers_tell(bad):
    wrong = [
        name
        for name, (flags, first, contains) in flags_of(bad.real).items()
        if not contains and (first == 0 and "movablekeys" not in flags) is not listed(name, KEYLESS)
    ]
    # Containers of which some subcommands have a key: whoever asks for help asks no slot.
    assert [name for name in wrong if name.partition("|")[0] not in MIXED] == []


# -- commands


def struck(code, generation, commands, *, start=NOW, before=None, backend="fakeredis"):
    """What a connection of a simulation is told, if that error strikes whatever it can."""

    async def main(simulation):
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection("redis", 6379)
        if before is not None:
            before(Beside(loop.network))
        simulation.inject(
            "error",
            command="*",
            process="test",
            error=code,
            server=generation,
            times=10**6,
            optional=True,
        )
        splitter, answers = Splitter(), []
        for words in commands:
            writer.write(encode_command(list(map(encoded, words))))
            while not (got := splitter.replies(await reader.read(1 << 20))):
                pass
            answers += got
        writer.close()
        return answers

    begin = datetime.datetime.fromtimestamp(start / 1000, datetime.UTC)
    with Simulation(start=begin, backend=backend, flush=True) as simulation:
        return simulation.run(main(simulation))


class Beside(Answerer):
    """The Redis of a simulation, reached without any hop."""

    def __init__(self, network):
        self._network = network

    def exchange(self, *words):
        return b"", self._network.look(*words)


def refusals_in(answers, code):
    """By their places: the errors of that state, and what became of transactions."""
    return {
        place: str(answer)
        for place, answer in enumerate(answers)
        if isinstance(answer, Error) and (code in str(answer) or "EXECABORT" in str(answer))
    }


def compare(code, generation, real_answers, commands):
    ours = refusals_in(struck(code, generation, commands), code)
    real = refusals_in(real_answers, code)
    different = [
        (" ".join(map(str, words)), real.get(place), ours.get(place))
        for place, words in enumerate(commands)
        if real.get(place) != ours.get(place)
    ]
    assert different == []
    return real


@pytest.mark.parametrize("code", TURNED_ON)
def test_a_real_server_in_that_state_refuses_the_same_commands_in_the_same_words(
    server, generation, code
):
    with server.in_state(code):
        answers = server.replies(*COMMANDS)
    assert len(compare(code, generation, answers, COMMANDS)) >= 4


@pytest.mark.parametrize("code", ["OOM", "READONLY", "MISCONF", "NOREPLICAS"])
@pytest.mark.parametrize("source", [FLAGGED, SAYS_NOTHING, "#!lua flags=no-writes\nreturn 1"])
def test_a_script_with_flags_is_refused_at_its_start(server, generation, code, source):
    commands = [("EVAL", source, 0)]
    with server.in_state(code):
        answers = server.replies(*commands)
    compare(code, generation, answers, commands)


def test_a_replica_that_has_lost_its_primary(server, generation):
    commands = [words for words in COMMANDS if "this is no Lua" not in words]
    server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    try:
        with server.in_state("READONLY"):
            answers = server.replies(*commands)
    finally:
        server.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")
    assert len(compare("MASTERDOWN", generation, answers, commands)) > 10


def test_a_busy_server(server, generation):
    server.ask("CONFIG", "SET", "lua-time-limit", 1)
    try:
        with server.busy():
            answers = server.replies(*COMMANDS)
    finally:  # the next test's scripts may take more than 1 ms
        server.ask("CONFIG", "SET", "lua-time-limit", 5000)
    assert len(compare("BUSY", generation, answers, COMMANDS)) > 20


@pytest.mark.slow
def test_a_loading_server(generation):
    with loading(PROGRAMS[generation]) as address:
        answers = replies(address, COMMANDS)
    assert len(compare("LOADING", generation, answers, COMMANDS)) > 20


@pytest.mark.slow
def test_a_cluster_that_is_not_whole(generation):
    commands = [words for words in COMMANDS if "l" not in words]  # keys of two slots
    with cluster_down(PROGRAMS[generation]) as address:
        answers = replies(address, commands)
    assert len(compare("CLUSTERDOWN", generation, answers, commands)) > 10


# -- queuekit's scripts

CASES = [(script, *case[:2]) for script, cases in TWICE.items() for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize("code", TURNED_ON)
def test_scripts_are_refused_where_a_real_server_refuses_them_and_have_written_nothing(
    server, generation, code
):
    """So whoever hears of it may send it again."""
    refused = set()
    for script, before, words in CASES:
        server.ask("FLUSHALL")
        before(server.real)
        state = server.real.read_all()
        call = call_of(script, *words)
        with server.in_state(code):
            [real] = server.replies(call)
        [ours] = struck(code, generation, [call], start=words[0], before=before)
        assert refusals_in([ours], code) == refusals_in([real], code), (script, words)
        if refusals_in([real], code):
            assert server.real.read_all() == state
            refused.add(script)
    bring_work = {"enqueue", "cron", "restore"}
    everything = set(OURS) - {"read"}
    by_generation = set() if (code, generation) == ("NOREPLICAS", "redis 6.2") else everything
    assert refused == (bring_work if code == "OOM" else by_generation)


@pytest.mark.parametrize("code", ["OOM", "READONLY"])
def test_a_script_is_tried_on_each_server_alike(server, generation, code):
    backend = f"unix://{server.real.server.address}"
    for script, before, words in CASES[::3]:
        call = call_of(script, *words)
        [ours] = struck(code, generation, [call], start=words[0], before=before)
        [there] = struck(code, generation, [call], start=words[0], before=before, backend=backend)
        assert refusals_in([there], code) == refusals_in([ours], code)
    commands = [words for words in COMMANDS if "SELECT" not in words]
    [*expected] = struck(code, generation, commands)
    answers = struck(code, generation, commands, backend=backend)
    assert refusals_in(answers, code) == refusals_in(expected, code)


def test_all_of_our_scripts_are_known_to_the_rules():
    assert set(OUR_SCRIPTS) == set(OURS)


@pytest.mark.slow
@pytest.mark.parametrize("code", sorted(set(ERRORS) - {"TRYAGAIN"}))
def test_what_is_said_never_to_be_refused_is_not(generation, code):
    for script, before, words in CASES:
        if never_refused(code, script, GENERATIONS[generation]):
            call = call_of(script, *words)
            answers = struck(code, generation, [call], start=words[0], before=before)
            assert refusals_in(answers, code) == {}


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_what_is_said_never_to_be_refused_of_commands_is_not(generation, code):
    answers = struck(code, generation, COMMANDS)
    for place in refusals_in(answers, code):
        name = COMMANDS[place][0]
        if name not in ("EXEC", "EVAL", "EVALSHA"):  # of a script its own name counts
            assert not never_refused(code, name, GENERATIONS[generation]), name


def test_what_was_on_its_way_on_a_connection_that_is_gone_meets_no_error(on_each_backend):
    simulation = Simulation(**on_each_backend)
    gone = []

    def hang_up(event):
        if isinstance(event, Hop) and event.command == "enqueue" and event.direction == "request":
            for wire in list(simulation.loop.network.wires):
                if not gone and wire.number == event.connection:
                    gone.append(event)
                    wire.hang_up()

    async def enqueues():
        await simulation.queue.enqueue(
            "task", key="first"
        )  # from now on the server knows the script
        simulation.observe(hang_up)
        simulation.inject("error", command="enqueue", error="OOM")
        with pytest.raises(ServerRefusedError, match="OOM"):
            await simulation.queue.enqueue("task", key="second")

    with simulation:
        simulation.run(enqueues())
    assert gone


def test_a_script_is_tried_at_the_servers_time_whatever_it_was_sent_with():
    """Then records are over, and it writes; at the time that it was sent with none is."""
    call = call_of("expire", NOW, 100)
    [later] = struck("READONLY", "redis 8", [call], start=NOW + 10**6, before=finished)
    [now] = struck("READONLY", "redis 8", [call], start=NOW, before=finished)
    assert isinstance(later, Error)
    assert now == 0
