"""Makes the demo's input: a CSV of orders, the same on every machine."""

from __future__ import annotations

import csv
import random
from datetime import date, timedelta
from pathlib import Path

from typing_extensions import TypedDict

__all__ = ["CATALOGUE", "ROWS", "Article", "write_orders"]


class Article(TypedDict):
    """An article's name and its price in cents."""

    name: str
    price: int


ROWS = 5000
_COUNTRIES = ("AT", "BR", "DE", "ES", "FR", "IN", "JP", "NL", "US")
_KINDS = ("lamp", "chair", "desk", "shelf", "rug", "clock", "vase", "stool")
_COLOURS = ("red", "blue", "green", "white", "black")

#: What the host knows of each article and the guest must ask for.
CATALOGUE: dict[str, Article] = {
    f"{kind[0].upper()}{colour[0].upper()}{100 + 7 * number}": {
        "name": f"{colour} {kind}",
        "price": 900 + 350 * number % 5400,
    }
    for number, (kind, colour) in enumerate((k, c) for k in _KINDS for c in _COLOURS)
}


def write_orders(path: Path, rows: int = ROWS) -> None:
    """Write `rows` orders of one year."""
    chance = random.Random(2026)  # noqa: S311 - shall be the same every time
    first = date(2026, 1, 1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["order", "date", "country", "sku", "quantity"])
        for number in range(1, rows + 1):
            day = first + timedelta(days=chance.randrange(365))
            country, sku = chance.choice(_COUNTRIES), chance.choice(list(CATALOGUE))
            writer.writerow([number, day.isoformat(), country, sku, chance.randint(1, 9)])
