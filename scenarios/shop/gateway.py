"""The shop's surroundings: a payment gateway that fails now and then, and a mail server."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta


class GatewayDown(Exception):  # noqa: N818 (named after what happened)
    """The payment gateway did not answer."""


class Gateway:
    """Fails one call in eight, and all of them during its outage on Wednesday afternoon."""

    OUTAGE = (timedelta(days=2, hours=14), timedelta(minutes=40))

    def __init__(self) -> None:
        self.charges: dict[int, int] = {}
        "Amount by order: charging an order again changes nothing."
        self.refused = 0

    def charge(self, order: int, amount: int) -> str:
        """Charge an order once, however often it is asked."""
        if order in self.charges:
            return "charged before"
        if self._is_down() or random.random() < 1 / 8:
            self.refused += 1
            raise GatewayDown(f"no answer for order {order}")
        self.charges[order] = amount
        return "charged"

    def _is_down(self) -> bool:
        now = datetime.now(UTC)
        monday = (now - timedelta(days=now.weekday())).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        begin, length = self.OUTAGE
        return begin <= now - monday < begin + length


class Outbox:
    """What was mailed."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def deliver(self, to: str, template: str) -> None:
        self.sent.append((to, template))
