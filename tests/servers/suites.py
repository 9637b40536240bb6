"""The suites of the store and the worker, in virtual time, on every server program there is.

`python -m tests.servers.suites`, which `make test-servers` runs. Each program serves five times: as
it is, as a Cluster (one server with all slots, which refuses what reaches beyond a slot), as the primary
of a pair that a Sentinel watches, to a user with the rights of docs/production.md and nothing more
than the simulation's own relay needs, and beside the embedded Redis, with which it must agree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.servers.running import RunningServer, free_port, programs
from tests.servers.test_least_privilege import acl_line
from tests.servers.test_sentinel import Pair

SUITES = ["tests/store", "tests/worker"]

RELAY_RIGHTS = "+client +flushdb +dbsize +keys".split()
"""What the relay and the tests ask beside the queue: who waits, and an empty server before each test."""


def cluster(program):
    server = RunningServer(program, "cluster-enabled yes", port=free_port())
    server.ask("CLUSTER", "ADDSLOTS", *range(16384))
    while b"cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
        time.sleep(0.01)  # it sets no event
    return server


def least_privilege(program):
    server = RunningServer(program)
    rules = [*acl_line(), *RELAY_RIGHTS]
    server.ask("ACL", "SETUSER", "default", "reset", "on", "nopass", *rules)
    return server


class WatchedPrimary(Pair):
    """A primary whose replica copies all that the tests do, under a Sentinel's eyes."""

    @property
    def path(self):
        return self.primary.path


BESIDE = "beside the embedded Redis"

KINDS = {
    "as it is": RunningServer,
    "as a Cluster": cluster,
    "with a replica and a Sentinel": WatchedPrimary,
    "least privilege": least_privilege,
    BESIDE: RunningServer,
}


def main():
    failed = []
    for name, program in programs().items():
        for kind, start in KINDS.items():
            print(f"== {name}, {kind}", flush=True)  # noqa: T201
            server = start(program)
            try:
                beside = "both+" if kind == BESIDE else ""
                environment = {
                    **os.environ,
                    "QUEUEKIT_TEST_BACKEND": f"{beside}unix://{server.path}",
                    "QUEUEKIT_TEST_PROGRAM": str(program),
                }
                # One process: two would empty the server under each other.
                command = [sys.executable, "-m", "pytest", "-q", *SUITES, *sys.argv[1:], "-n0"]
                if subprocess.run(command, env=environment, check=False).returncode:
                    failed.append(f"{name}, {kind}")
            finally:
                server.close()
    if failed:
        print("Failed on: " + "; ".join(failed))  # noqa: T201
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
