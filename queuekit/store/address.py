"""Addresses of queues: what they say, without connecting to anything."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from redis.asyncio.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from queuekit.errors import (
    InvalidOptionError,
    InvalidOptionTypeError,
    InvalidUrlError,
    MissingDependencyError,
)

SOCKET_TIMEOUT_S = 5.0
"""A half-open connection costs at most this. Set on every connection by ourselves, since redis-py's
own default differs between its majors (none before 8)."""

REDIS_SCHEMES = ("redis", "rediss", "unix")
SENTINEL_SCHEME, CLUSTER_SCHEME = "sentinel", "rediscluster"
SENTINEL_PORT, REDIS_PORT = 26379, 6379
BACKEND_GROUP = "queuekit.backends"
"Entry points of this group give clients for other schemes; the testing extra brings `fakeredis`."

T = TypeVar("T")

Node = tuple[str, int]
"Host and port."


@dataclass(frozen=True)
class Address:
    """Where a queue's Redis is to be found."""

    kind: Literal["fixed", "sentinel", "cluster", "backend"]
    shown: str
    "For people: without what is secret."
    connection: type[Any] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    "Of each connection to the server that holds the queue."
    max_connections: int | None = None
    nodes: tuple[Node, ...] = ()
    "The Sentinels, or some servers of the Cluster."
    service: str = ""
    "What the Sentinels call the primary."
    asking: dict[str, Any] = field(default_factory=dict, repr=False)
    "Options of connections to the Sentinels."

    @property
    def limit_s(self) -> float:
        """What a half-open connection costs at most: the socket's time-out."""
        return float(self.options["socket_timeout"] or SOCKET_TIMEOUT_S)


def redact(url: str) -> str:
    """The address without what is secret in it: user, password and query stay out of logs."""
    # Up to the last @, since a password may hold one that nobody has escaped.
    bare = re.sub(r"//.*@", "//***@", url, flags=re.DOTALL)
    return re.sub(r"\?.*$", "?***", bare, flags=re.DOTALL)


def read_address(url: str, options: dict[str, Any]) -> Address:
    """What an address and the options given with it mean.

    Raises:
        InvalidUrlError: it is none that queuekit knows. The message never shows its password.
        MissingDependencyError: the scheme needs an extra that is not installed.
    """
    if not isinstance(url, str):
        raise InvalidUrlError(f"the address of a queue must be text, got {type(url).__name__}.")
    scheme = url.split(":", 1)[0].lower() if "://" in url else ""
    if scheme in REDIS_SCHEMES:
        return _fixed(url, options)
    if scheme in (SENTINEL_SCHEME, CLUSTER_SCHEME):
        return _found_by_asking(scheme, url, options)
    for point in metadata.entry_points(group=BACKEND_GROUP):
        if point.name == scheme:
            return _backend(point, url, options)
    schemes = (*REDIS_SCHEMES, SENTINEL_SCHEME, CLUSTER_SCHEME, "fakeredis")
    known = ", ".join(f"{known}://" for known in schemes)
    raise InvalidUrlError(
        f"{redact(url)!r} is no address of a queue: there is no scheme {scheme!r}.\n"
        f"  Known are {known}.\n"
        "  For a Redis on this machine: redis://localhost"
    )


def _fixed(url: str, options: dict[str, Any]) -> Address:
    given = {**options, **_parsed(url, url)}
    kind = given.pop("connection_class", Connection)
    return _address("fixed", url, kind, given)


def _found_by_asking(scheme: str, url: str, options: dict[str, Any]) -> Address:
    """`sentinel://user:password@host:port,host:port/service` and `rediscluster://...`."""
    rest, _, query = url.split("://", 1)[1].partition("?")
    credentials, _, places = rest.rpartition("@")
    hosts, _, path = places.partition("/")
    default = SENTINEL_PORT if scheme == SENTINEL_SCHEME else REDIS_PORT
    nodes = tuple(_node(host, default, url) for host in hosts.split(",") if host)
    service, _, database = path.partition("/")
    if scheme == CLUSTER_SCHEME:
        service, database = "", path
    plain = f"redis://{credentials}{'@' if credentials else ''}host/{database}?{query}"
    given = {**options, **_parsed(plain, url)}
    given.pop("host", None)
    # The Sentinels have users of their own, but the certificates of whoever runs the Redis.
    asking = {name: value for name, value in given.items() if name.startswith("ssl_")}
    asking |= given.pop("sentinel_kwargs", None) or {}
    asking.pop("ssl", None)
    if not nodes or (scheme == SENTINEL_SCHEME) != bool(service):
        raise _not_understood(
            url, "a host is missing" if not nodes else "it names no primary, or one too many"
        )
    if scheme == CLUSTER_SCHEME and given.get("db"):
        raise _not_understood(url, "a Cluster has database 0 only")
    kind: Literal["sentinel", "cluster"]
    kind = "sentinel" if scheme == SENTINEL_SCHEME else "cluster"
    return _address(kind, url, Connection, given, nodes, service, asking)


def _address(
    kind: Literal["fixed", "sentinel", "cluster"],
    url: str,
    connection: type[Any],
    given: dict[str, Any],
    nodes: tuple[Node, ...] = (),
    service: str = "",
    asking: dict[str, Any] | None = None,
) -> Address:
    if _truth(given.pop("ssl", False)) and connection is Connection:
        connection = SSLConnection
    most = given.pop("max_connections", None)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InvalidOptionError(f"max_connections={most!r} must be a whole number from 1.")
    keepalive = connection is not UnixDomainSocketConnection
    options = connection_options(given, keepalive=keepalive)
    asked = connection_options(asking or {}, keepalive=True)
    _try_out(connection, options)
    if kind == "sentinel":
        _try_out(connection, asked)
    return Address(kind, redact(url), connection, options, most, nodes, service, asked)


def _try_out(connection: type[Any], options: dict[str, Any]) -> None:
    """Build a connection, which connects to nothing, to see whether it takes these options."""
    try:
        connection(**options)
    except (TypeError, ValueError, RedisError) as error:
        raise InvalidOptionTypeError(
            f"a connection to Redis cannot be made with these options: {error}\n"
            f"  Given were {', '.join(sorted(options))} (some of them by queuekit).\n"
            "  Pass what the installed redis-py knows of a connection, in the address or to the queue."
        ) from error


try:
    from redis.driver_info import DriverInfo
    from redis.event import EventDispatcher
except ImportError:  # before redis-py 7
    _DRIVER: dict[str, Any] = {}
    NAMELESS: dict[str, Any] = {"lib_name": None, "lib_version": None}
    "Options of a connection that does not tell the server what client it is."
else:
    NAMELESS = {"driver_info": None}
    # Left to itself, each connection reads redis-py's metadata anew, which costs more than all else of it,
    # and makes a dispatcher of events of which it has none.
    _DRIVER = {"driver_info": DriverInfo(), "event_dispatcher": EventDispatcher()}


class _Never(Retry):
    """No second try. One object for all: a copy for each connection takes as long as all else of one."""

    def __deepcopy__(self, memo: object) -> _Never:
        return self


_NEVER = _Never(NoBackoff(), 0)


def _check_time_outs(given: dict[str, Any]) -> None:
    """Raises InvalidOptionError for one that is no number of seconds."""
    for name in ("socket_timeout", "socket_connect_timeout"):
        value = given.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if value is not None and not number:
            raise InvalidOptionError(
                f"{name}={value!r} is no time-out.\n"
                "  It is a number of seconds above 0, within which Redis has to answer.\n"
                f"  Leave it out for {SOCKET_TIMEOUT_S:g} s."
            )


def connection_options(given: dict[str, Any], *, keepalive: bool) -> dict[str, Any]:
    """Options of a connection of redis-py: what we set where nothing is given, and what is ours alone."""
    _check_time_outs(given)
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        **given,
        # What is sent again is decided by us, where a script answers "already done".
        "retry": _NEVER,
        "health_check_interval": 0,
        # Replies are read as they come in version 2 of the protocol, as bytes.
        "protocol": 2,
        **_DRIVER,
        "decode_responses": False,
    }
    if keepalive:
        options.setdefault("socket_keepalive", True)
    return options


def _parsed(url: str, original: str) -> dict[str, Any]:
    read = _or_none(parse_url, url)
    if read is None:
        raise _not_understood(
            original, "a part of it has a value that cannot be read, or is not escaped"
        )
    path = _or_none(urlsplit, url)
    if not url.lower().startswith("unix:") and path and not re.fullmatch(r"/?\d*/?", path.path):
        raise _not_understood(
            original, "a database is a number, or a character of the password is not escaped"
        )
    return dict(read)


def _node(text: str, default_port: int, url: str) -> Node:
    parts = _or_none(_host_and_port, text)
    if parts is None:
        raise _not_understood(url, "a host or its port cannot be read")
    host, port = parts
    if not host:
        raise _not_understood(url, "a host is missing")
    return host, port or default_port


def _host_and_port(text: str) -> tuple[str | None, int | None]:
    parts = urlsplit(f"//{text}")
    return parts.hostname, parts.port


def _or_none(read: Callable[[str], T], text: str) -> T | None:
    """What a parser makes of a text, or None.

    Its own error is dropped here, and not chained to ours by even a hidden link, since it may quote
    the password: a / in it that is not escaped makes the rest of it look like a port.
    """
    with contextlib.suppress(ValueError):
        return read(text)
    return None


def _not_understood(url: str, what: str) -> InvalidUrlError:
    return InvalidUrlError(
        f"{redact(url)!r} cannot be read as an address of a queue: {what}.\n"
        "  Expected is one like redis://user:password@host:6379/0,"
        " sentinel://host:26379,host2:26379/mymaster or rediscluster://host:6379.\n"
        "  Escape special characters in a password with %: urllib.parse.quote(password, safe='')."
    )


def _truth(value: Any) -> bool:
    return value.lower() in ("1", "true", "yes") if isinstance(value, str) else bool(value)


def _backend(point: metadata.EntryPoint, url: str, options: dict[str, Any]) -> Address:
    try:
        make = point.load()
    except ImportError as error:
        raise MissingDependencyError(
            f"{point.name}:// needs a package that is not installed: {error.name}.\n"
            "  Install the testing extra: pip install 'queuekit[testing]'"
        ) from error

    def connect(**extra: Any) -> Any:
        return make(url, **extra).connection_pool.make_connection()

    return Address("backend", redact(url), connect, connection_options(options, keepalive=False))  # type: ignore[arg-type]
