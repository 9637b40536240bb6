"""Signatures on records, for a Redis that others can write to.

A seal is an HMAC-SHA-256 (RFC 2104) over what the record is, whose it is, and its bytes, so that no
record can be passed off as another one. Without keys nothing is signed, and nothing is asked for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError, SignatureError

_MARK = b"hmac-sha256:"
_HEX_BYTES = 64

MIN_KEY_BYTES = 16
"A shorter key could be guessed."


def _check(keys: object) -> None:
    # A key itself is never shown. None is most often a setting that was forgotten: nothing would be signed.
    if not isinstance(keys, list | tuple):
        raise InvalidOptionTypeError(
            f"signing_keys is {type(keys).__name__}.\n"
            "  It is a list of secrets, each text or bytes.\n"
            "  Leave it out to sign nothing; look where the setting should have come from."
        )
    for key in keys:
        if not isinstance(key, str | bytes):
            raise InvalidOptionTypeError(
                f"a signing key is {type(key).__name__}.\n"
                "  It is text or bytes.\n"
                "  Make one: python -c 'import secrets; print(secrets.token_hex(32))'"
            )


class Seal:
    """Signs the records of one queue, and checks them.

    Args:
        queue: the queue's name; a record of another queue is refused.
        keys: a ring: the first one signs, each of them is accepted. To change keys, first add the new
            one at the end everywhere, then put it in front, then drop the old one.

    Raises:
        InvalidOptionError: a key that is too short.
    """

    def __init__(self, queue: str, keys: Sequence[str | bytes] = ()) -> None:
        if isinstance(keys, str | bytes):
            keys = [keys]
        _check(keys)
        self._queue = queue.encode()
        self._keys = [key.encode() if isinstance(key, str) else bytes(key) for key in keys]
        if any(len(key) < MIN_KEY_BYTES for key in self._keys):
            raise InvalidOptionError(
                f"a signing key has fewer than {MIN_KEY_BYTES} bytes.\n"
                "  A short key can be guessed.\n"
                "  Make one: python -c 'import secrets; print(secrets.token_hex(32))'"
            )

    def close(self, kind: str, key: str, raw: bytes) -> bytes:
        """The record with its signature in front, if this queue signs."""
        if not self._keys:
            return raw
        return _MARK + self._mac(self._keys[0], kind, key, raw) + b":" + raw

    def open(self, kind: str, key: str, record: bytes) -> bytes:
        """The record without its signature.

        Raises:
            SignatureError: it is not signed with a key of the ring, or is signed and there is no ring.
        """
        signed = record.startswith(_MARK)
        if not self._keys and not signed:
            return record
        end = len(_MARK) + _HEX_BYTES
        mac, raw = record[len(_MARK) : end], record[end + 1 :]
        if signed and any(
            hmac.compare_digest(mac, self._mac(secret, kind, key, raw)) for secret in self._keys
        ):
            return raw
        found = "is signed with a key that is not known here" if signed else "is not signed"
        raise SignatureError(
            f"the {kind} of job {key!r} {found}.\n"
            "  A queue with signing_keys= accepts what was signed with one of them, and nothing else.\n"
            "  Give all producers and workers of the queue the same keys; what this record says is not run."
        )

    def _mac(self, secret: bytes, kind: str, key: str, raw: bytes) -> bytes:
        mac = hmac.new(secret, digestmod=hashlib.sha256)
        for part in (kind.encode(), self._queue, key.encode()):
            mac.update(b"%d:" % len(part) + part)
        mac.update(raw)
        return mac.hexdigest().encode()
