"""Tasks by name."""

import pytest

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.registry import Registry


async def send(ctx):
    """A task."""


class Mailer:
    async def send(self, ctx):
        """A task that is a method."""


def test_a_task_is_found_by_qualified_name_and_by_module():
    registry = Registry([send, Mailer.send])
    assert registry["send"] is send
    assert registry["Mailer.send"] is Mailer.send
    assert registry[f"{__name__}.send"] is send
    assert "nope" not in registry


def test_a_pair_names_a_task_and_the_task_itself_still_finds_it():
    registry = Registry([("mail", send)])
    assert registry["mail"] is registry["send"] is send
    assert list(registry.names) == ["mail"]


def test_two_tasks_of_one_name_are_refused():
    def other():
        """Another one."""

    with pytest.raises(InvalidOptionError, match="two tasks are called 'send'"):
        Registry([send, ("send", other)])


def test_the_same_task_twice_is_no_harm():
    assert len(Registry([send, send]).names) == 1


@pytest.mark.parametrize("entry", ["send", 5, None, Mailer])
def test_what_is_no_function_is_refused(entry):
    with pytest.raises(InvalidOptionTypeError, match="is no task"):
        Registry([entry])
