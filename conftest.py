"""Rules of the test run itself: nothing is skipped, and what is slow says so."""

from __future__ import annotations

import pytest

SLOW_S = 0.25
"A test that takes longer is marked `slow`, so that `make quick` stays quick."

GRACE = 4
"How many times over the limit an unmarked test must be before we name it: other machines are slower."

_skipped: list[str] = []
_unmarked: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)
    if report.when == "call" and report.duration > SLOW_S * GRACE and "slow" not in report.keywords:
        _unmarked.append(f"{report.nodeid} ({report.duration:.2f} s)")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("skipped tests fail the run", red=True)
        terminalreporter.line(
            f"{len(_skipped)} skipped, the first: {_skipped[0]}\n"
            "  Every test runs everywhere: a skipped one proves nothing, and nobody notices.\n"
            "  Install what it misses (real servers come with `make test`), or delete it."
        )
    if _unmarked:
        terminalreporter.section(f"over {SLOW_S} s and not marked slow")
        terminalreporter.line("\n".join(_unmarked))
