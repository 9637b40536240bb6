"""Each way of cutting a connection does what its name says, and no more."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.chaos.proxy import Proxy


@contextlib.asynccontextmanager
async def connection(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def behind_a_proxy():
    """A server that answers each line with `done`, a connection to it by the proxy, and what it has heard."""
    heard, serving = [], []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        while line := await reader.readline():
            heard.append(line)
            writer.write(b"done\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1")
    proxy = Proxy(server.sockets[0].getsockname()[1])
    await proxy.start()
    async with connection(proxy) as (reader, writer):
        writer.write(b"hello\n")
        assert await reader.readline() == b"done\n"
        yield proxy, reader, writer, heard
    await proxy.close()
    server.close()
    await asyncio.gather(*serving, return_exceptions=True)


def strike(mode):
    """What the client gets for one more line, and what the server has heard."""

    async def main():
        async with behind_a_proxy() as (proxy, reader, writer, heard):
            [pair] = proxy.pairs
            pair.mode = mode
            writer.write(b"again\n")
            answer = asyncio.create_task(reader.readline())
            if mode == "half-open":
                # On another connection all is well; by then this one would have had its answer.
                async with connection(proxy) as (other, other_writer):
                    other_writer.write(b"other\n")
                    await other.readline()
                assert not answer.done()
                pair.end(reset=True)
            with pytest.raises(ConnectionResetError):
                await answer
            return heard

    return asyncio.run(main())


def test_cut_before_the_server_never_gets_the_command():
    assert strike("before") == [b"hello\n"]


def test_cut_after_the_server_has_done_it_and_the_reply_is_lost():
    assert strike("after") == [b"hello\n", b"again\n"]


def test_half_open_nothing_passes_and_nobody_is_told():
    assert strike("half-open") == [b"hello\n", b"other\n"]


def test_a_new_connection_leads_to_the_new_target_and_one_to_nowhere_ends():
    async def main():
        async with behind_a_proxy() as (proxy, _, _, heard):
            proxy.target, right = 1, proxy.target
            async with connection(proxy) as (reader, _):
                assert await reader.read() == b""
            proxy.target = right
            async with connection(proxy) as (reader, writer):
                writer.write(b"back\n")
                assert await reader.readline() == b"done\n"
            assert heard == [b"hello\n", b"back\n"]

    asyncio.run(main())
