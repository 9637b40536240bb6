"""Commands run as fakeredis runs them, whatever is done once instead of each time."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
from fakeredis import FakeServer
from fakeredis._socket import AsyncFakeSocket

from queuekit.simulation import commands
from queuekit.simulation.server import Connection, EmbeddedServer

SHOWN = 80
"Bytes of an error that are compared: fakeredis adds a stack of Lua's to what scripts raise."


class PlainConnection(Connection):
    """A connection on which fakeredis does what `commands.py` does otherwise."""

    _run_command = AsyncFakeSocket._run_command
    _name_to_func = AsyncFakeSocket._name_to_func
    _convert_lua_result = AsyncFakeSocket._convert_lua_result
    _lua_redis_call = AsyncFakeSocket._lua_redis_call
    eval = AsyncFakeSocket.eval
    evalsha = AsyncFakeSocket.evalsha
    hmget = AsyncFakeSocket.hmget
    zadd = AsyncFakeSocket.zadd
    zrange = AsyncFakeSocket.zrange


class Heard:
    """A client's end that keeps what it was sent."""

    number = 1

    def __init__(self):
        self.replies = []

    def reply(self, data, value, *, traced):
        is_error = data.startswith(b"-")
        self.replies.append((data[:SHOWN], "") if is_error else (data, repr(value)))


def words(line):
    """A command's words; ~ is a space in one."""
    return [word.replace("~", " ").encode() for word in line.split()]


LINES = """
SET a 1 | GET a | GET none | INCR a | HSET a f v | HSET h f v g w | HGET h f | HMGET h f x g | HGETALL h
HDEL h f | HDEL h g | EXISTS h | TYPE h | GET | GET a b | SET a | NONSENSE x | CLIENT NONSENSE
EVALSHA abc 0 | ZADD z 1 m 2.5 n | ZADD z x m | ZSCORE z n | ZRANGE z 0 -1 WITHSCORES | ZREM z m
ZREM z n | EXISTS z | ZCARD none | ZPOPMIN none | ZPOPMIN a | RPUSH l 1 2 3 | LRANGE l 0 -1 | LPOP l 9
EXISTS l | LLEN a | DEL a none | EXPIRE none 1 | SET b 1 PX 500 | PTTL none | PERSIST b | SET c 1 NX
SET c 2 NX | GETRANGE c 0 5 | APPEND c 3 | RENAME c d | RENAME none d | SADD s 1 2 | SMEMBERS s
SREM s 1 2 | EXISTS s | HSET e f v | HPEXPIRE e 100 FIELDS 1 f | HGET e f | SETRANGE e 1 x | DUMP none
LINDEX none 0 | LMOVE none l LEFT RIGHT | TYPE l | INCRBYFLOAT i 1.5 | INCR i | XADD x 1-1 f v | XLEN x
XRANGE x - + | OBJECT ENCODING x | COPY b k | GET k | EVAL return~1 0
EVAL return~{1,2,{3,'x'},false,true} 0 | EVAL return~redis.call('GET','none') 0
EVAL return~redis.call('GET') 0 | EVAL return~redis.call('NONSENSE') 0
EVAL return~redis.call('EVAL','return~1',0) 0 | EVAL return~redis.pcall('HGET','b','f') 0
EVAL return~redis.call('HGET','b','f') 0 | EVAL return~nonsense( 0 | EVAL made~=~1;~return~made 0
EVAL return~made 0 | EVAL made~=~nil 0 | EVAL return~KEYS[1]..ARGV[1] 1 k v | EVAL return~1 2 k
EVAL return~redis.call('ZADD','z',1.5,'m')~..type(redis.call('ZSCORE','z','m')) 0 | EVAL return~1 -1
EVAL return~{ok='fine'} 0 | EVAL return~{err='BAD~it~is'} 0 | EVAL return~redis.call('SET','q',{}) 0
EVAL return~redis.call('ZRANGE','z',0,-1,'WITHSCORES') 0 | EVAL return~redis.call('CONFIG','GET','x') 0
ZADD o 1 m 1 l 2 k | ZRANGE o 0 0 | ZRANGE o 0 0 WITHSCORES | ZRANGE o 0 0 REV | ZRANGE o 0 0 x
ZRANGE none 0 0
ZRANGE none 0 0 WITHSCORES | ZRANGE a 0 0 | ZRANGE o 0 0 BYSCORE | ZRANGE o 00 0 | ZRANGE o 0 0 withscores
ZADD n inf m | ZADD n nan m | ZADD n 1 m | ZADD n 1 m | ZADD n 2 m | ZSCORE n m | ZADD n NX 3 m | ZADD n 1
ZADD n 3 m XX | ZADD n 1e400 m | ZADD a 1 m | ZADD n 4 m 5 n | ZRANGE n 0 -1 WITHSCORES | HMGET a f | HMGET h
HDEL none f | HEXISTS none f | HGET none f | HGETALL none | HKEYS none | HLEN none | HMGET none f g
HSTRLEN none f | HVALS none | ZCOUNT none 0 1 | ZLEXCOUNT none - + | ZPOPMAX none 2 | ZPOPMIN none 2
ZRANGE none 0 1 | ZRANGEBYLEX none - + | ZRANGEBYSCORE none 0 1 | ZRANK none m | ZREM none m
ZREVRANGE none 0 1
ZREVRANGEBYLEX none + - | ZREVRANGEBYSCORE none 1 0 | ZREVRANK none m | ZSCORE none m | EXISTS none
HSET f1 f v | HGETALL f2 | ZADD z1 1 m | ZRANGE z2 0 -1 | ZINCRBY z3 1 m | ZCARD z4
HINCRBY f3 f 1 | HLEN f4
MULTI | SET t 1 | GET t | HGET t f | EXEC | MULTI | NONSENSE | EXEC | WATCH t | SET t 2 | MULTI | GET t
EXEC
"""

SUBSCRIBED = "SUBSCRIBE news | GET t | PUBLISH news hello | PING | UNSUBSCRIBE news | GET t"
"Under RESP2 only: fakeredis has its limit for subscribers under RESP3, too, and a real server has not."


@pytest.mark.parametrize(("protocol", "more"), [(2, SUBSCRIBED), (3, "PING")])
def test_each_command_is_answered_as_fakeredis_answers_it(protocol, more):
    rows = [*LINES.strip().splitlines(), more]
    lines = [line.strip() for row in rows for line in row.split("|")]
    found = [[], []]

    async def main():
        for kind, into in zip((Connection, PlainConnection), found, strict=True):
            wire = Heard()
            connection = kind(EmbeddedServer(), wire)
            connection.execute([b"HELLO", b"%d" % protocol])
            for line in lines:
                wire.replies.clear()
                connection.execute(words(line))
                into.append((line, list(wire.replies)))

    asyncio.run(main())
    ours, theirs = found
    assert len(ours) == len(lines) > 90
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == []


def test_what_a_subscriber_hears_of_keys_is_what_fakeredis_tells():
    heard = []

    async def main():
        for kind in (Connection, PlainConnection):
            server, wire = EmbeddedServer(), Heard()
            kind(server, wire).execute(words("PSUBSCRIBE __*"))
            writer = kind(server, Heard())
            for line in (
                "SET a 1",
                "GET a",
                "HSET h f v",
                "HDEL h f",
                "RPUSH l 1",
                "GET l",
                "DEL a l",
            ):
                writer.execute(words(line))
            heard.append(wire.replies)

    asyncio.run(main())
    assert heard[0] == heard[1]
    assert len(heard[0]) > 7


def test_a_connection_begins_as_one_of_fakeredis_does():
    async def main():
        fake = FakeServer(version=(7, 4))
        genuine = vars(AsyncFakeSocket(fake, 0, None, client_class=redis.asyncio.Redis))
        first, second = (vars(Connection(EmbeddedServer(), Heard())) for _ in range(2))
        for name, value in genuine.items():
            if name in commands._UNUSED:
                assert name not in first
            elif isinstance(value, str | int | None):
                assert first[name] == value or name == "_fileno", name
            elif isinstance(value, set | dict | list) and name != "_client_info":
                assert first[name] == value == type(value)(), name
                assert first[name] is not second[name], name
        assert set(first["_client_info"]) - {"addr", "laddr", "protocol-version"} == set(
            genuine["_client_info"]
        )
        assert first["_server"] is not second["_server"]

    asyncio.run(main())


def answers(*lines):
    """What a new server answers; it is closed behind it, as at the end of a world."""
    wire = Heard()

    async def main():
        server = EmbeddedServer()
        connection = Connection(server, wire)
        for line in lines:
            connection.execute(words(line))
        server.close()

    asyncio.run(main())
    return [data for data, _ in wire.replies]


def test_what_a_script_leaves_in_lua_is_gone_with_its_world():
    assert answers("EVAL return~1 0", "EVAL return~made 0") == [b":1\r\n", b"$-1\r\n"]
    left, again = answers("EVAL made~=~1 0", "EVAL return~2 0")
    assert left.startswith(b"-ERR Script attempted to set global variables: made")
    assert again == left
    assert answers("EVAL return~made 0") == [b"$-1\r\n"]


@pytest.mark.parametrize("keys", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, commands._GIVEN_AT_ONCE, 20_000])
def test_a_script_is_given_its_keys_and_arguments_however_many(keys, count):
    script = "return~{#KEYS,#ARGV,KEYS[#KEYS],ARGV[#ARGV]}"
    given = [*(f"k{n}" for n in range(keys)), *(f"a{n}" for n in range(count))]
    both = [f"k{keys - 1}"] if keys else []
    both += [f"a{count - 1}"] if count else []
    if not keys:
        both = []  # an array ends at its first nil
    shown = "".join(f"${len(word)}\r\n{word}\r\n" for word in both)
    expected = f"*{2 + len(both)}\r\n:{keys}\r\n:{count}\r\n{shown}"
    assert answers(f"EVAL {script} {keys} {' '.join(given)}") == [expected.encode()]
