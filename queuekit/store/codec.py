"""How a job is written down, and read again.

A job has two parts. The *call* (what to run, and under which options) is written once, by the
queue's `dump`, as one record. The *state* (status, counters, times, result) is a hash whose fields
the scripts change; result and meta in it went through `dump` too, in a wrapper, since a `dump` may
insist on a mapping.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from queuekit.errors import InvalidOptionError, NotSerializableError, TaskFailure
from queuekit.job import Job, Status
from queuekit.text import clip, repr_of, text_of
from queuekit.types import DumpType, LoadType

FORMAT = 1
"The version of the record's format; it travels in every call."

MAX_PAYLOAD_BYTES = 1024 * 1024
"One call, result or meta. A queue carries references; a megabyte is already too much of the data."

STATE_FIELDS = (
    "status attempts failures losses queued started completed touched due worker progress meta "
    "result error exception fence claim"
).split()
"The order in which prelude.lua's state_of answers."

_CALL_DEFAULTS: dict[str, Any] = {
    "timeout": 10,
    "heartbeat": 0,
    "retries": 1,
    "ttl": 600,
    "retry_delay": 0.0,
    "retry_backoff": False,
}


def json_dump(value: Mapping[Any, Any]) -> str:
    """The default `dump`: compact JSON, refusing what would not come back as it went."""
    _check_keys(value, ())
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def json_load(text: bytes | str) -> Any:
    """The default `load`."""
    return json.loads(text)


class _UnwritableError(TypeError):
    """A mapping's key that JSON would quietly turn into text."""


def _check_keys(value: Any, path: tuple[Any, ...], depth: int = 0) -> None:
    if depth > 100:
        raise _UnwritableError("nested deeper than 100 levels, or holds itself")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _UnwritableError(f"the key {key!r} is {type(key).__name__}, not text")
            _check_keys(item, path, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item, path, depth + 1)


class Codec:
    """One queue's way of writing records."""

    def __init__(self, dump: DumpType | None = None, load: LoadType | None = None) -> None:
        self._dump: DumpType = dump or json_dump
        self._load: LoadType = load or json_load

    def encode(self, what: str, value: Mapping[str, Any]) -> bytes:
        """The record of a mapping; `what` names it in errors.

        Raises:
            NotSerializableError: `dump` refuses it; the message has the path of the culprit.
            InvalidOptionError: it is larger than `MAX_PAYLOAD_BYTES`.
        """
        try:
            written = self._dump(value)
            raw = written if isinstance(written, bytes) else written.encode()
        except Exception as error:  # whatever a user's dump raises
            raise self._unserializable(what, value, error) from error
        if len(raw) > MAX_PAYLOAD_BYTES:
            raise InvalidOptionError(
                f"{what} takes {len(raw):,} bytes.\n"
                f"  At most {MAX_PAYLOAD_BYTES:,} are stored.\n"
                "  Store the data elsewhere and pass a reference."
            )
        return raw

    def _unserializable(
        self, what: str, value: Mapping[str, Any], error: Exception
    ) -> NotSerializableError:
        path, culprit = _first_unwritable(lambda item: self._dump({"value": item}), value)
        return NotSerializableError(
            f"{what} cannot be stored: {type(error).__name__} at {path or what}: {error}\n"
            f"  Found {type(culprit).__name__}: {clip(repr_of(culprit), 80)}.\n"
            "  Pass plain JSON values, or give the queue a dump and load that know the type."
        )

    def encode_call(self, job: Job) -> bytes:
        """The record of what is to be run."""
        call: dict[str, Any] = {"v": FORMAT, "function": job.function}
        if job.kwargs:
            call["kwargs"] = job.kwargs
        for name, default in _CALL_DEFAULTS.items():
            if getattr(job, name) != default:
                call[name] = getattr(job, name)
        if job.meta:
            call["meta"] = job.meta
        return self.encode(f"the arguments of {job.function!r}", call)

    def encode_value(self, what: str, value: Any) -> bytes:
        """The record of a single value (a result, meta)."""
        return self.encode(what, {"value": value})

    def decode_value(self, raw: bytes) -> Any:
        """The value that `encode_value` wrote."""
        return self._load(raw)["value"]

    def decode_job(self, key: str, call_raw: bytes | None, state: Sequence[bytes | None]) -> Job:
        """A job from its two parts.

        Raises:
            ValueError: the record is missing, or not one that this version wrote.
        """
        if call_raw is None:
            raise ValueError(f"the call of job {key!r} is gone; what it was to run is not known")
        call = self._load(call_raw)
        if not isinstance(call, dict) or not isinstance(call.get("function"), str):
            raise ValueError(f"the call of job {key!r} is no record of queuekit's")
        fields = dict(zip(STATE_FIELDS, state, strict=True))
        status = Status(_text(fields["status"]) or "queued")
        meta = fields["meta"]
        result = fields["result"]
        job = Job(
            function=call["function"],
            kwargs=call.get("kwargs"),
            key=key,
            status=status,
            scheduled=_seconds(_number(fields["due"])),
            progress=1.0 if status is Status.COMPLETE else float(fields["progress"] or 0),
            meta=self.decode_value(meta) if meta else call.get("meta") or {},
            result=self.decode_value(result) if result else None,
            error=_text(fields["error"]),
            worker_id=worker_name(_text(fields["worker"])),
        )
        for name, default in _CALL_DEFAULTS.items():
            setattr(job, name, call.get(name, default))
        for name in _COUNTERS:
            setattr(job, name, _number(fields[name]))
        return job

    def decode_failure(self, state: Sequence[bytes | None]) -> TaskFailure | None:
        """The failure of the attempt before, if there was one."""
        fields = dict(zip(STATE_FIELDS, state, strict=True))
        exception = fields["exception"]
        if not exception:
            return None
        type_name, message = json.loads(exception)
        return TaskFailure(type_name, message, _text(fields["error"]))


_COUNTERS = ("attempts", "failures", "losses", "queued", "started", "completed", "touched")


def worker_name(address: str | None) -> str | None:
    """The worker's id in its address: one that was given has a mark of its start behind it."""
    name, mark, _ = (address or "").rpartition("~")
    return name if mark else address


def encode_exception(error: BaseException) -> bytes:
    """Type and text of an exception, for `ctx["exception"]` of the next attempt."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return json.dumps([name, clip(text_of(error), 1024)]).encode()


def _seconds(milliseconds: int) -> float:
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def _number(raw: bytes | None) -> int:
    return int(raw) if raw else 0


def _text(raw: bytes | None) -> str | None:
    return raw.decode("utf-8", "replace") if raw is not None else None


def _first_unwritable(
    write: Callable[[Any], object], value: Any, path: str = ""
) -> tuple[str, Any]:
    """The path and value of the first leaf that cannot be written, depth first."""
    if path.count("[") > 100:  # it holds itself
        return clip(path, 80), value
    children: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{path}[{repr_of(key)}]", key
            children.append((f"{path}[{key!r}]" if path else key, item))
    elif isinstance(value, list | tuple):
        children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    for where, item in children:
        try:
            write(item)
        except RecursionError:
            return where, item
        except Exception:  # this is the question: can it be written?
            return _first_unwritable(write, item, where)
    return path, value
