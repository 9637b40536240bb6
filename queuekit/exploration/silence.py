"""What workers log about misfortunes that are meant is for nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent() -> Iterator[None]:
    """Python's last resort prints nothing of queuekit's in this block; handlers of one's own still hear."""
    silence = logging.NullHandler()
    logger = logging.getLogger("queuekit")
    logger.addHandler(silence)
    try:
        yield
    finally:
        logger.removeHandler(silence)
