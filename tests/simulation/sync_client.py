"""A sync client of redis-py's as the tests of simulated sockets use it, and a watch for its calls."""

from __future__ import annotations

import time

import redis

URL = "redis://redis.internal:6379/0"


def connect(**options):
    """A sync client that hands on each error at once, in all versions of redis-py."""
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    times_out_never = {"socket_timeout": None, "socket_connect_timeout": None}
    return redis.Redis.from_url(URL, **{**times_out_never, "retry": never, **options})


def took(function, *arguments, **keywords):
    """A call's result, or the error that it raised, and the seconds that it took."""
    began = time.monotonic()
    try:
        result = function(*arguments, **keywords)
    except redis.RedisError as error:
        result = type(error)
    return result, time.monotonic() - began
