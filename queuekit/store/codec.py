"""How a job is written down, and read again.

A job has two parts. The *call* (what to run, and under which options) is written once, by the
queue's `dump`, as one record. The *state* (status, counters, times, result) is a hash whose fields
the scripts change; result and meta in it went through `dump` too, in a wrapper, since a `dump` may
insist on a mapping.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from queuekit.errors import (
    InvalidOptionError,
    InvalidOptionTypeError,
    NotSerializableError,
    TaskFailure,
    UnreadableRecordError,
)
from queuekit.job import Job, Status
from queuekit.options import check_call
from queuekit.store.seal import Seal
from queuekit.text import clip, one_line, repr_of, text_of
from queuekit.types import DumpType, LoadType

FORMAT = 1
"""The version of the record's format; it travels in every call. It is raised only when a record would
be misread by the version before: an older reader ignores fields that it does not know, and sets aside
a record of a newer format."""

MAX_PAYLOAD_BYTES = 1024 * 1024
"One call or result. A queue carries references; a megabyte is already too much of the data."

MAX_META_BYTES = 64 * 1024
"Of `meta`: it is a note about a job, read with every look at it."

MAX_DEPTH = 100
"Levels of nesting: more is an accident, or an attack on whoever reads it."

_HEAD_BYTES = 128
"The head of a call at most: the id of its enqueue and the moment."

STATE_FIELDS = (
    "status attempts failures losses abandoned started completed touched due worker progress meta "
    "result error exception fence claim priority group solo unknown"
).split()
"The order in which prelude.lua's state_of answers."

NOT_KNOWN = "?"
"The function of a job whose record cannot be read."

_FENCE, _CLAIM = STATE_FIELDS.index("fence"), STATE_FIELDS.index("claim")

_CALL_DEFAULTS: dict[str, Any] = {
    "timeout": 10,
    "heartbeat": 0,
    "retries": 1,
    "ttl": 600,
    "retry_delay": 0.0,
    "retry_backoff": False,
    "max_lost": 2,
    "priority": 0,
    "group_key": None,
}

State = Sequence[bytes | None]
"A job's state as the scripts answer it: a value, or None, for each of `STATE_FIELDS`."


def json_dump(value: Mapping[Any, Any]) -> str:
    """The default `dump`: compact JSON, refusing what would not come back as it went."""
    _check_keys(value)
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def json_load(text: bytes | str) -> Any:
    """The default `load`: JSON of at most `MAX_DEPTH` levels."""
    openings = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else MAX_DEPTH + 1
    value = json.loads(text)
    if openings > MAX_DEPTH:  # so few could not be nested deeper
        _check_keys(value)
    return value


class _UnwritableError(TypeError):
    """A mapping's key that JSON would quietly turn into text."""


def _check_keys(value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise _UnwritableError(f"nested deeper than {MAX_DEPTH} levels, or holds itself")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _UnwritableError(f"the key {key!r} is {type(key).__name__}, not text")
            _check_keys(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item, depth + 1)


class Codec:
    """One queue's way of writing records."""

    def __init__(
        self, dump: DumpType | None = None, load: LoadType | None = None, seal: Seal | None = None
    ) -> None:
        self._dump: DumpType = dump or json_dump
        self._load: LoadType = load or json_load
        self._seal = seal or Seal("")

    def encode(self, what: str, value: Mapping[str, Any], limit: int = MAX_PAYLOAD_BYTES) -> bytes:
        """The record of a mapping; `what` names it in errors.

        Raises:
            NotSerializableError: `dump` refuses it; the message has the path of the culprit.
            InvalidOptionError: it is larger than `limit` bytes.
        """
        try:
            raw = self._written(value)
        except Exception as error:  # whatever a user's dump raises
            raise self._unserializable(what, value, error) from error
        if len(raw) > limit:
            raise InvalidOptionError(
                f"{what} takes {len(raw):,} bytes.\n"
                f"  At most {limit:,} are stored.\n"
                "  Store the data elsewhere and pass a reference."
            )
        return raw

    def _written(self, value: Mapping[str, Any]) -> bytes:
        written = self._dump(value)
        if not isinstance(written, bytes | str):
            raise _UnwritableError(f"dump gave {type(written).__name__}, not text or bytes")
        return written if isinstance(written, bytes) else written.encode()

    def _unserializable(
        self, what: str, value: Mapping[str, Any], error: Exception
    ) -> NotSerializableError:
        path, culprit = _first_unwritable(lambda item: self._written({"value": item}), value)
        found = f"found {type(culprit).__name__} {clip(repr_of(culprit), 80)}"
        return NotSerializableError(
            f"{what} cannot be stored: {type(error).__name__} at {clip(path or what, 80)}: {found}\n"
            f"  It says: {one_line(clip(text_of(error), 300))}\n"
            "  Pass plain JSON values, or give the queue a dump and load that know the type."
        )

    def encode_call(self, job: Job) -> bytes:
        """The record of what is to be run."""
        call: dict[str, Any] = {"v": FORMAT, "function": job.function}
        if job.kwargs:
            call["kwargs"] = job.kwargs
        for name, default in _CALL_DEFAULTS.items():
            value = getattr(job, name)
            if value != default:
                call[name] = value
        if job.meta:
            self.encode("meta", {"value": job.meta}, MAX_META_BYTES)
            call["meta"] = job.meta
        raw = self.encode(f"the arguments of {job.function!r}", call)
        return self._seal.close("call", job.key, raw)

    def encode_value(self, what: str, key: str, value: Any) -> bytes:
        """The record of a single value of a job: its `result` or `meta`."""
        limit = MAX_META_BYTES if what == "meta" else MAX_PAYLOAD_BYTES
        return self._seal.close(what, key, self.encode(what, {"value": value}, limit))

    def decode_value(self, what: str, key: str, raw: bytes) -> Any:
        """The value that `encode_value` wrote."""
        written = self._seal.open(what, key, raw)
        if len(written) > MAX_PAYLOAD_BYTES:
            raise UnreadableRecordError(f"the {what} of job {key!r} has {len(written):,} bytes")
        return self._load(written)["value"]

    def decode_job(self, key: str, record: bytes | None, state: State | None) -> Job:
        """A job from its two parts.

        Raises:
            Exception: the record is missing, not one that this version can read, or `load` refuses it.
        """
        if state is None:
            raise UnreadableRecordError(f"the state of job {key!r} is no hash")
        head, payload = self._opened(key, record)
        call = self._call(key, payload)
        fields = dict(zip(STATE_FIELDS, state, strict=True))
        status = Status(_text(fields["status"]) or "queued")
        meta, result = fields["meta"], fields["result"]
        job = Job(
            function=call["function"],
            kwargs=call.get("kwargs"),
            key=key,
            status=status,
            scheduled=_seconds(_number(fields["due"])),
            progress=1.0 if status is Status.COMPLETE else float(fields["progress"] or 0),
            meta=self.decode_value("meta", key, meta) if meta else call.get("meta") or {},
            result=self.decode_value("result", key, result) if result else None,
            error=_text(fields["error"]),
            worker_id=worker_name(_text(fields["worker"])),
        )
        for name, default in _CALL_DEFAULTS.items():
            setattr(job, name, call.get(name, default))
        for name in COUNTERS:
            setattr(job, name, _number(fields[name]))
        _check_stored(job)
        job.queued = int(head.partition(b" ")[2])
        job.touched = job.touched or job.queued
        return job

    def _opened(self, key: str, record: bytes | None) -> tuple[bytes, bytes]:
        if record is None:
            raise UnreadableRecordError(
                f"the call of job {key!r} is gone; what it was to run is not known"
            )
        head, end, payload = record.partition(b"\n")
        if not end or len(head) > _HEAD_BYTES or not head.partition(b" ")[2].isdigit():
            raise UnreadableRecordError(f"the call of job {key!r} is no record of queuekit's")
        return head, self._seal.open("call", key, payload)

    def _call(self, key: str, payload: bytes) -> dict[str, Any]:
        # Somebody else may have written it: bounds are checked before it is taken apart.
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise UnreadableRecordError(f"the call of job {key!r} has {len(payload):,} bytes")
        try:
            call = self._load(payload)
        except RecursionError as error:
            raise UnreadableRecordError(f"the call of job {key!r} is nested too deep") from error
        if not isinstance(call, dict) or not isinstance(call.get("function"), str):
            raise UnreadableRecordError(f"the call of job {key!r} is no record of queuekit's")
        if not isinstance(call.get("kwargs", {}), dict):
            raise UnreadableRecordError(f"the arguments of job {key!r} are no mapping")
        version = call.get("v")
        if type(version) is not int or not 1 <= version <= FORMAT:
            raise UnreadableRecordError(
                f"the call of job {key!r} has format {version!r}, and this version reads {FORMAT}.\n"
                "  Upgrade its workers, then queue.restore() the job."
            )
        return call

    def decode_failure(self, state: State) -> TaskFailure | None:
        """The failure of the attempt before, if there was one."""
        fields = dict(zip(STATE_FIELDS, state, strict=True))
        exception = fields["exception"]
        if not exception:
            return None
        type_name, message = json.loads(exception)
        return TaskFailure(type_name, message, _text(fields["error"]))


COUNTERS = ("attempts", "failures", "losses", "abandoned", "started", "completed", "touched")


def _check_stored(job: Job) -> None:
    """What a producer of ours would have refused was written by somebody else, and would break its worker."""
    try:
        check_call(job)
    except (InvalidOptionError, InvalidOptionTypeError) as error:
        what = str(error).partition("\n")[0]
        raise UnreadableRecordError(
            f"the call of job {job.key!r} can never work: {what}"
        ) from error


def decode_infos(told: Mapping[str, bytes]) -> dict[str, Any]:
    """What workers told about themselves, by their addresses; what is no such thing is left out."""
    infos: dict[str, Any] = {}
    for address, raw in told.items():
        with contextlib.suppress(ValueError, RecursionError):
            info = json_load(raw)
            if isinstance(info, dict):
                infos[address] = info
    return infos


def unreadable(key: str, state: State | None, error: Exception) -> Job:
    """What can be told of a job whose record cannot be read, for those who only look."""
    fields = dict(zip(STATE_FIELDS, state or [None] * len(STATE_FIELDS), strict=True))
    status = _text(fields["status"]) or "queued"
    why = f"its record cannot be read: {text_of(error)}"
    job = Job(function=NOT_KNOWN, key=key, error=_text(fields["error"]) or why, unreadable=why)
    job.status = Status(status) if status in set(Status) else Status.QUEUED
    job.worker_id = worker_name(_text(fields["worker"]))
    for name in COUNTERS:
        with contextlib.suppress(ValueError):  # that one may be what cannot be read
            setattr(job, name, _number(fields[name]))
    return job


def claim_of(state: State) -> str:
    """The claim id in a job's state."""
    return _text(state[_CLAIM]) or ""


def unknown_tries(state: State) -> int:
    """How often a worker handed the job back because it did not know its function."""
    return _number(state[STATE_FIELDS.index("unknown")])


def runs_alone(state: State) -> bool:
    """Whether the job is to run alone in its process."""
    return state[STATE_FIELDS.index("solo")] is not None


def payload_of(record: bytes | None) -> bytes | None:
    """What a producer wrote, without the head that the store put in front."""
    head, end, payload = (record or b"").partition(b"\n")
    return payload if end and len(head) <= _HEAD_BYTES else record


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
    if path.count("[") > MAX_DEPTH:  # it holds itself
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
