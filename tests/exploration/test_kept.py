"""Failures that are kept: what is deleted, what is not, and whether the command that is printed replays."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from queuekit import cli
from queuekit.exploration import ExplorationFailed, NotRepeatable, explore
from queuekit.exploration.failures import KEPT
from queuekit.simulation import SimulationError
from tests.exploration.shop import charged, ship, sound

pytestmark = pytest.mark.slow
"Each of these lives through some runs."

STORIES = """
import functools

from queuekit import effect


async def charge(ctx, order):
    await effect("charged", order=order)


async def story(simulation, n=1):
    simulation.worker([charge])
    for _ in range(n):
        await simulation.queue.enqueue("charge", order=1)


async def fails(simulation):
    await story(simulation)
    assert False, "as it must"


class Broken:
    promise = "mine"


def checker(simulation):
    return [Broken()] if simulation.effects("charged").count else []


def uncharged(simulation, most=0):
    assert simulation.effects("charged").count <= most


class Story:
    async def __call__(self, simulation):
        await fails(simulation)

    async def method(self, simulation):
        await fails(simulation)


class Checker:
    def __call__(self, simulation):
        return checker(simulation)


twice = functools.partial(story, n=2)
most_0 = functools.partial(uncharged, most=0)
an_object = Story()
a_checker = Checker()
"""


@pytest.fixture
def stories(tmp_path, monkeypatch):
    """A module of its own, in the folder from which tests are run."""
    (tmp_path / "stories_of_a_test.py").write_text(STORIES, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("stories_of_a_test")
    sys.modules.pop("stories_of_a_test", None)


def told(story, **options):
    with pytest.raises(ExplorationFailed) as caught:
        explore(story, **{"seeds": 1, "faults": (), **options})
    return str(caught.value).rpartition("to replay: ")[2], caught.value.failure


def replayed(command):
    """The exit code of a printed command, run as in a process that has not imported the story yet."""
    words = shlex.split(command.splitlines()[0])
    assert words[:3] == ["python", "-m", "queuekit"]
    sys.modules.pop("stories_of_a_test", None)
    return cli.main(words[3:])


@pytest.mark.parametrize(
    "options",
    [
        lambda s: {"story": s.fails},
        lambda s: {"story": s.twice, "once": ["charged"]},
        lambda s: {"story": s.an_object},
        lambda s: {"story": s.story, "checkers": [s.checker]},
        lambda s: {"story": s.story, "checkers": [s.a_checker], "check": False},
        lambda s: {"story": s.story, "invariants": [s.uncharged]},
        lambda s: {"story": s.story, "invariants": [s.most_0]},
        lambda s: {"story": s.fails, "kept": "my failures"},
        lambda s: {"story": s.fails, "backend": "both"},
    ],
)
def test_the_command_that_is_printed_replays(stories, capsys, options):
    given = options(stories)
    command, _ = told(given.pop("story"), **given)
    assert replayed(command) == 0
    assert "as recorded." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (lambda s: {"story": lambda w: s.story(w, 1 // 0)}, "<lambda>"),
        (lambda s: {"story": s.Story().method}, "Story.method"),
        (lambda s: {"story": s.Story()}, "an object of Story"),
        (lambda s: {"story": s.story, "checkers": [s.Checker()]}, "its checker"),
        (
            lambda s: {"story": s.story, "invariants": [lambda w: not w.effects("charged").count]},
            "its invariant",
        ),
        (
            lambda s: {"story": s.story, "invariants": [s.functools.partial(s.uncharged, most=0)]},
            "partial(uncharged, most=0)",
        ),
    ],
)
def test_where_no_command_can_replay_the_text_says_why_and_the_test_does(
    stories, capsys, options, culprit
):
    given = options(stories)
    story = given.pop("story")
    how, failure = told(story, **given)
    assert how.startswith("run this test again, in which the kept failure comes first")
    assert culprit in how
    assert not failure.importable
    assert cli.main(["replay", failure.token]) == 2
    assert "Run its test again" in capsys.readouterr().err
    with pytest.raises(ExplorationFailed, match="kept from an earlier exploration"):
        explore(story, seeds=1, faults=(), **given)


def test_what_is_not_kept_is_looked_for_anew_and_the_text_says_so(stories):
    how, _ = told(stories.fails, kept=None)
    assert "it was not kept: kept=None" in how


def test_a_failure_that_cannot_be_kept_is_told_all_the_same(stories, tmp_path):
    (tmp_path / "a file").write_text("", "utf-8")
    how, failure = told(stories.fails, kept=tmp_path / "a file")
    assert failure.promise.startswith("story:AssertionError")
    assert "it could not be kept" in how


def test_a_script_that_explores_when_it_is_imported_is_told_to_be_guarded(tmp_path, capsys):
    script = tmp_path / "script.py"
    text = (
        f"{STORIES}\nfrom queuekit.exploration import explore\nexplore(fails, seeds=1, faults=())\n"
    )
    script.write_text(text, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (kept,) = (tmp_path / ".queuekit" / "failures").glob("*.toml")
    assert f"python -m queuekit replay {kept.stem}" in done.stderr
    assert cli.main(["replay", str(kept)]) == 2
    assert "if __name__ == '__main__':" in capsys.readouterr().err


def test_stories_of_one_name_in_files_of_one_name_have_two_tokens(stories, tmp_path):
    tokens = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / "test_shop.py").write_text(STORIES, "utf-8")
        tokens.add(told(importlib.import_module(f"{folder}.test_shop").fails)[1].token)
        sys.modules.pop(f"{folder}.test_shop")
        sys.modules.pop(folder)
    assert len(tokens) == 2
    assert {path.stem for path in Path(".queuekit/failures").glob("*.toml")} == tokens


# -- what is deleted


def kept_of(stories, monkeypatch, **options):
    """The file of a failure, which fails no more."""
    _, failure = told(stories.story, once=["charged"], invariants=[stories.uncharged], **options)
    monkeypatch.setattr(stories.uncharged, "__code__", (lambda simulation, most=0: None).__code__)
    monkeypatch.setattr(
        "queuekit.exploration.failures.HASH_SEEDS", ()
    )  # mended in this process only
    return failure.path


def passes(stories, **options):
    given = {"once": ["charged"], "invariants": [stories.uncharged], "seeds": 1, "faults": ()}
    return explore(stories.story, **{**given, **options})


def test_a_failure_that_passes_as_it_was_found_is_deleted(stories, monkeypatch):
    path = kept_of(stories, monkeypatch)
    assert passes(stories).runs == 2
    assert not path.exists()


@pytest.mark.parametrize(
    "options", [{"once": ()}, {"invariants": ()}, {"limit": 5}, {"check": False}]
)
def test_a_failure_that_passes_on_other_terms_stays(stories, monkeypatch, options):
    path = kept_of(stories, monkeypatch)
    assert passes(stories, **options).runs == 2
    assert path.exists()


def test_a_failure_that_passes_with_other_versions_stays(stories, monkeypatch):
    path = kept_of(stories, monkeypatch)
    text = path.read_text("utf-8")
    assert 'python = "3.' in text
    path.write_text(text.replace('python = "3.', 'python = "2.'), "utf-8")
    assert passes(stories).runs == 2
    assert path.exists()


def test_a_failure_that_somebody_has_given_a_name_stays(stories, monkeypatch):
    path = kept_of(stories, monkeypatch)
    named = path.rename(path.with_name("twice.toml"))
    assert passes(stories).runs == 2
    assert named.exists()


def test_what_is_no_failure_is_neither_run_nor_deleted(stories, tmp_path, monkeypatch):
    path = kept_of(stories, monkeypatch)
    own = path.with_name("story.toml")
    target = "../../stories_of_a_test.py:story"
    own.write_text(f"version = 1\nscenario = '{target}'\nseed = 7\n", "utf-8")
    path.with_name("pyproject.toml").write_text("[project]\nname = 'shop'\n", "utf-8")
    path.with_name("half.toml").write_text("[project\n", "utf-8")
    assert passes(stories).runs == 2
    assert {each.name for each in path.parent.iterdir()} == {
        "story.toml",
        "pyproject.toml",
        "half.toml",
    }


HASHED = """
from queuekit.exploration import explore


async def work(ctx):
    pass


async def story(simulation):
    simulation.worker([work])
    await simulation.queue.enqueue("work")
    assert next(iter({"a", "b"})) == "a", "b came first"


if __name__ == "__main__":
    explore(story, seeds=1, faults=())
"""


def test_a_failure_that_follows_the_order_of_a_set_is_told_and_not_deleted(tmp_path):
    (tmp_path / "hashed.py").write_text(HASHED, "utf-8")

    def lived(hash_seed):
        root = Path(__file__).parents[2]
        return subprocess.run(
            [sys.executable, "hashed.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
        ).stderr

    firsts = {seed: first_of_a_set(seed) for seed in ("1", "2", "3")}
    assert set(firsts.values()) == {"a", "b"}  # else the seeds that are tried see one order only
    fails = next(seed for seed, first in firsts.items() if first == "b")
    holds = next(seed for seed, first in firsts.items() if first == "a")
    assert "b came first" in lived(fails)
    said = lived(holds)
    assert "NotRepeatable" in said
    assert f"PYTHONHASHSEED={fails}" in said
    assert len(list((tmp_path / ".queuekit" / "failures").glob("*.toml"))) == 1


def first_of_a_set(hash_seed):
    return subprocess.run(
        [sys.executable, "-c", "print(next(iter({'a', 'b'})))"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


# -- what was found is told, though it cannot be reduced


def story_that_fails_at(place):
    lived = []

    async def story(simulation):
        lived.append(1)
        simulation.worker([ship])
        await simulation.queue.enqueue("ship", order=1)
        assert len(lived) != place, f"run {place} breaks"

    return story


def test_what_broke_is_told_with_a_run_that_did_not_break_again():
    with pytest.raises(NotRepeatable, match=r"Found by run \d of 10: .* run 4 breaks"):
        explore(story_that_fails_at(4), seeds=10, faults=(), kept=None, guard=0)


def test_what_broke_in_another_process_only_is_told():
    with pytest.raises(NotRepeatable, match="run 7 breaks") as caught:
        explore(story_that_fails_at(7), seeds=30, faults=(), kept=None, guard=0, jobs=2)
    assert "in one of 2 processes" in str(caught.value)


def test_an_exploration_inside_of_a_running_loop_is_refused_with_what_to_do():
    async def inside(simulation):
        explore(sound, seeds=1, kept=None)

    with pytest.raises(ExplorationFailed, match="inside a running event loop"):
        explore(inside, seeds=1, kept=None)


def test_a_spoiled_file_of_a_failure_is_told(tmp_path):
    (tmp_path / "0123abcd.toml").write_text("version = ", "utf-8")
    with pytest.raises(SimulationError, match=r"0123abcd\.toml cannot be read"):
        explore(charged, seeds=1, kept=tmp_path)


# -- stories that one function makes

MADE = """
import pytest
from queuekit.exploration import explore


def story_of(n, *, broken=False, box=None):
    async def work(ctx):
        pass

    async def story(simulation, n=n):
        simulation.worker([work])
        await simulation.queue.enqueue("work")
        assert n != 3 or PASSES, f"{n} is too many"
        assert not box, "the box is full"
    return story


PASSES = False


@pytest.mark.parametrize("n", [3, 4])
def test_each(n):
    explored = explore(story_of(n), seeds=1, faults=())
    assert explored.runs == 1  # none of another story's was relived


@pytest.mark.parametrize("full", [True, False])
def test_one_test_that_explores_two(full):
    explore(story_of(1, box=[]), seeds=1, faults=(), name="an empty box")
    explore(story_of(1, box=[1] if full else []), seeds=1, faults=(), name=f"a box, {full}")
"""


def pytest_says(*options, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_stories_that_one_function_makes_have_failures_of_their_own(tmp_path):
    (tmp_path / "test_made.py").write_text(MADE, "utf-8")
    said = pytest_says("test_made.py", cwd=tmp_path)
    assert "2 failed, 2 passed" in said
    kept = [path.read_text("utf-8") for path in (tmp_path / KEPT).glob("*.toml")]
    assert sum('name = "test_made.py::test_each[3]"' in text for text in kept) == 1
    made = 'scenario = "../../test_made.py:story_of.<locals>.story(n=3)"'
    assert sum(made in text for text in kept) == 1
    assert sum('name = "a box, True"' in text for text in kept) == 1
    # Those beside pass, and leave alone what is not theirs.
    assert "2 passed" in pytest_says("test_made.py", "-k", "4 or False", cwd=tmp_path)
    assert len(list((tmp_path / KEPT).glob("*.toml"))) == 2


def test_the_message_and_the_command_say_which_test_replays_it(tmp_path):
    (tmp_path / "test_made.py").write_text(MADE, "utf-8")
    said = pytest_says("test_made.py", "-k", "each", cwd=tmp_path)
    again = "run this test again, in which the kept failure comes first: pytest "
    assert f"{again}'test_made.py::test_each[3]'" in said
    said = pytest_says("test_made.py::test_each[3]", cwd=tmp_path)
    assert "kept from an earlier exploration" in said
    [kept] = (tmp_path / KEPT).glob("*.toml")
    replayed = subprocess.run(
        [sys.executable, "-m", "queuekit", "replay", kept.stem],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert replayed.returncode == 2
    assert "Run its test again: pytest 'test_made.py::test_each[3]'." in replayed.stderr


def test_a_mended_one_is_deleted_by_its_own_test(tmp_path):
    (tmp_path / "test_made.py").write_text(MADE, "utf-8")
    pytest_says("test_made.py", "-k", "each", cwd=tmp_path)
    (tmp_path / "test_made.py").write_text(MADE.replace("PASSES = False", "PASSES = True"), "utf-8")
    pytest_says("test_made.py", "-k", "each and 4", cwd=tmp_path)
    assert len(list((tmp_path / KEPT).glob("*.toml"))) == 1
    pytest_says("test_made.py", "-k", "each and 3", cwd=tmp_path)
    assert not list((tmp_path / KEPT).glob("*.toml"))
