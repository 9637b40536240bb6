"""The plugin in suites of users, beside the plugins that they have."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

JOBS = """
import asyncio, time
runs = []
async def charge(ctx, order):
    runs.append(order)
    if len(runs) % 3:
        raise ConnectionError("gateway down")
    return {"paid": order}
"""

CARD = """
from jobs import charge

async def test_card(simulation):
    simulation.worker(functions=[charge])
    job = await simulation.queue.enqueue("charge", order=42, retries=3, retry_delay=5, retry_backoff=True)
    await simulation.advance(5 + 10)
    simulation.assert_completed(job, attempts=3, result={"paid": 42})
    simulation.assert_retried(job, delays=[5, 10])
"""

INI = "[pytest]\naddopts = -p no:asyncio -p no:anyio -W error\n"


def passed(result, number):
    code, output = result
    assert code == 0, output
    assert re.search(rf"\b{number} passed", output), output
    return output


def test_an_async_test_needs_no_other_plugin_and_leaves_no_warning(suite):
    passed(suite.write(pytest=INI, jobs=JOBS, test_card=CARD).run(), 1)


def test_the_same_file_runs_on_a_private_server_and_says_so(suite):
    result = suite.write(pytest=INI, jobs=JOBS, test_card=CARD).run("--queuekit-backend=server")
    assert "queuekit: backend server" in passed(result, 1)


def test_the_same_file_runs_on_a_server_given_by_address_if_its_database_is_empty(suite):
    from queuekit.simulation.private_server import start_private_server  # noqa: PLC0415
    from queuekit.simulation.relay import Link  # noqa: PLC0415

    server = start_private_server()
    option = f"--queuekit-backend=unix://{server.address}"
    try:
        suite.write(pytest=INI, jobs=JOBS, test_card=CARD)
        passed(suite.run(option), 1)
        link = Link(server.address, 0)
        link.ask(b"SET", b"precious", b"1")
        code, output = suite.run(option)
        assert code == 1
        assert "holds 1 keys" in output
        assert "--queuekit-flush" in output
        passed(suite.run(option, "--queuekit-flush"), 1)
        link.close()
    finally:
        server.close()


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_pytest_asyncio_may_be_in_use_in_the_same_suite(suite, mode):
    suite.write(
        pytest=f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n",
        jobs=JOBS,
        test_card=CARD
        + """
import pytest

@pytest.mark.asyncio
async def test_marked(simulation):
    await simulation.advance(86_400)
    assert simulation.now.day == 2

class TestMethods:
    @pytest.mark.asyncio
    async def test_method(self, simulation):
        assert await simulation.queue.count("queued") == 0
""",
        test_theirs="""
import asyncio, time, pytest

@pytest.mark.asyncio
async def test_real_time():
    await asyncio.sleep(0)
    assert time.gmtime().tm_year < 2030

@pytest.fixture
def nothing(simulation):
    return simulation

def test_plain(simulation):
    simulation.run(simulation.advance(5))
    assert simulation.now.second == 5
""",
    )
    passed(suite.run(), 5)


def test_anyio_may_be_in_use_in_the_same_suite(suite):
    suite.write(
        pytest="[pytest]\naddopts = -p no:asyncio\n",
        jobs=JOBS,
        test_card=CARD,
        test_theirs="""
import time, anyio, pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_real_time():
    await anyio.sleep(0.01)
    assert time.gmtime().tm_year < 2030

@pytest.mark.anyio
async def test_both(simulation):
    await simulation.advance(60)
    assert simulation.now.minute == 1
""",
    )
    passed(suite.run(), 3)


def test_workers_of_xdist_start_a_server_each(suite):
    many = CARD.replace("test_card", "test_a") + CARD.replace("test_card", "test_b")
    suite.write(pytest=INI, jobs=JOBS, test_card=many)
    passed(suite.run("-n", "2", "--queuekit-backend=server"), 2)


def test_workers_of_xdist_do_not_share_a_database(suite):
    suite.write(pytest=INI, jobs=JOBS, test_card=CARD)
    code, output = suite.run("-n", "2", "--queuekit-backend=redis://127.0.0.1:6379/15")
    assert code == 1
    assert "each worker starts a private one" in output


def test_freezegun_may_be_in_use_in_the_same_suite(suite):
    suite.write(
        pytest=INI,
        jobs=JOBS,
        test_card=CARD,
        test_theirs="""
import datetime, freezegun

@freezegun.freeze_time("2020-05-05")
def test_frozen():
    assert datetime.date.today() == datetime.date(2020, 5, 5)

def test_not_frozen():
    assert 2020 < datetime.date.today().year < 2030
""",
    )
    passed(suite.run(), 3)


def test_durations_and_time_of_the_run_are_real(suite):
    suite.write(
        pytest=INI,
        test_year="async def test_year(simulation):\n    await simulation.advance(366 * 86_400)\n",
    )
    output = passed(suite.run("--durations=0", "-vv"), 1)
    assert "day" not in output.splitlines()[-1], output


def test_a_seed_is_taken_or_drawn_and_printed(suite):
    suite.write(
        pytest=INI,
        test_seed="async def test_seed(simulation):\n    print('seed is', simulation.seed)\n",
    )
    assert "seed is 7" in passed(suite.run("-s", "--queuekit-seed=7"), 1)
    output = passed(suite.run("-s", "--queuekit-seed=random"), 1)
    drawn = re.search(r"queuekit: seed (\d+)", output)
    assert f"seed is {drawn.group(1)}" in output
    code, output = suite.run("--queuekit-seed=soon")
    assert code == 4
    assert "--queuekit-seed=soon is no seed" in output


def test_options_come_from_folder_command_line_and_marker_in_this_order(suite):
    suite.write(
        pytest=INI,
        conftest="""
import pytest

@pytest.fixture
def queuekit_config():
    return {"start": "2031-01-01", "seed": 1}
""",
        test_options="""
import pytest

async def test_folder_and_command_line(simulation):
    assert (simulation.now.year, simulation.seed) == (2031, 2)

@pytest.mark.queuekit(start="2032-01-01", seed=3)
async def test_marker(simulation):
    assert (simulation.now.year, simulation.seed) == (2032, 3)
""",
    )
    passed(suite.run("--queuekit-seed=2", "--strict-markers"), 2)


@pytest.mark.parametrize(
    ("marker", "words"),
    [("(begin=1)", "there is no option begin"), ("(5)", "takes keywords only")],
)
def test_a_wrong_marker_is_named(suite, marker, words):
    suite.write(
        pytest=INI,
        test_bad=f"import pytest\n\n@pytest.mark.queuekit{marker}\n"
        "async def test_bad(simulation):\n    pass\n",
    )
    code, output = suite.run()
    assert code == 1
    assert words in output


def test_a_failure_shows_what_was_found_and_why_nothing_ran(suite):
    suite.write(
        pytest=INI,
        jobs=JOBS,
        test_fails="""
async def test_fails(simulation):
    job = await simulation.queue.enqueue("charge", order=42)
    await simulation.advance(5)
    simulation.assert_completed(job)
""",
    )
    code, output = suite.run()
    assert code == 1
    assert "(charge) to be complete." in output
    assert "no worker runs for queue 'default'" in output
    assert "2030-01-01 00:00:00  enqueued" in output


def test_a_test_that_fails_in_the_middle_is_taken_down_cleanly(suite):
    suite.write(
        pytest=INI,
        test_fails="""
import time
def sleeper(ctx):
    time.sleep(1000)

async def test_fails(simulation):
    simulation.worker(functions=[sleeper])
    await simulation.queue.enqueue("sleeper")
    await simulation.advance(5)
    raise ValueError("in the middle")

async def test_next(simulation):
    assert await simulation.queue.count("incomplete") == 0
""",
    )
    code, output = suite.run()
    assert code == 1
    assert "1 failed, 1 passed" in output


def test_the_plugin_imports_nothing_heavy_before_a_fixture_is_asked_for(suite):
    suite.write(
        pytest=INI,
        test_light="""
import sys
def test_light():
    heavy = {"queuekit", "redis", "fakeredis", "freezegun", "asyncio.events", "lupa"}
    assert not heavy & set(sys.modules) - {"asyncio.events"}
""",
    )
    passed(suite.run(), 1)


def test_without_the_testing_extra_the_fixture_says_how_to_install_it(suite):
    suite.write(
        pytest=INI,
        conftest="""
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "fakeredis" else real(name, *more)
""",
        test_any="async def test_any(simulation):\n    pass\n",
    )
    code, output = suite.run()
    assert code == 1
    assert "pip install 'queuekit[testing]'" in output


def test_replaying_and_recording_a_scenario_from_the_command_line(tmp_path):
    (tmp_path / "story.py").write_text(
        "async def story(simulation):\n    await simulation.advance(60)\n", "utf-8"
    )
    file = tmp_path / "story.toml"
    file.write_text('# told once\nversion = 1\nscenario = "story.py:story"\nseed = 4\n', "utf-8")

    def queuekit(*arguments):
        command = [sys.executable, "-m", "queuekit", *arguments]
        caching = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=caching)

    assert queuekit("replay", str(file)).returncode == 3
    recorded = queuekit("record", str(file))
    assert recorded.returncode == 0, recorded.stderr
    assert file.read_text("utf-8").startswith("# told once\n")
    for backend in ("fakeredis", "server"):
        replayed = queuekit("replay", str(file), "--backend", backend)
        assert (replayed.returncode, "as recorded." in replayed.stdout) == (0, True), replayed
    story = tmp_path / "story.py"
    told_at = story.stat()
    story.write_text("async def story(simulation):\n    await simulation.advance(61)\n", "utf-8")
    # As long, and in the same second: no cache of compiled files sees the difference.
    os.utime(story, ns=(told_at.st_atime_ns, told_at.st_mtime_ns))
    changed = queuekit("replay", str(file))
    assert changed.returncode == 1
    assert "the trace differs" in changed.stdout
    file.write_text("version = 9\n", "utf-8")
    assert queuekit("replay", str(file)).returncode == 2


INTERRUPTED = """
import asyncio, os, signal

async def stubborn(ctx):
    while True:
        try:
            await asyncio.sleep(1)
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:
            print("taken in")

async def test_it(simulation):
    simulation.worker(functions=[stubborn], shutdown_grace_period_s=600_000)
    simulation.process("fails", failing)
    await simulation.queue.enqueue("stubborn", timeout=0)
    await simulation.advance(3600)

async def failing():
    raise ValueError("this is not what the run ended by")

def test_that_is_not_reached(): pass
"""


def test_ctrl_c_ends_the_test_run_in_order(suite):
    code, output = suite.write(test_it=INTERRUPTED).run("-s")
    assert code == pytest.ExitCode.INTERRUPTED
    assert output.count("taken in") >= 1
    assert "no tests ran" in output
    for noise in ("ERROR", "Exception ignored", "was destroyed", "ProcessFailed"):
        assert noise not in output
