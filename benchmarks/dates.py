"""Dates as people write them, in English and German, and as ISO 8601 has them.

No text has two readings: years have four digits, and in numbers the day comes first or the year.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta

FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
}
DAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
}
SPELLINGS: tuple[Callable[[date], str], ...] = (
    lambda d: f"{month(d)} {d.day}, {d.year}",
    lambda d: f"{d.day} {month(d)} {d.year}",
    lambda d: f"{month(d)[:3]} {d.day}, {d.year}",
    lambda d: f"{d.day:02} {month(d)[:3]} {d.year}",
    lambda d: f"the {ordinal(d)} of {month(d)}, {d.year}",
    lambda d: f"{ordinal(d)} {month(d)} {d.year}",
    lambda d: f"{month(d)} {ordinal(d)}, {d.year}",
    lambda d: f"{weekday(d)}, {month(d)} {d.day}, {d.year}",
    lambda d: f"{weekday(d)[:3]} {d.day} {month(d)[:3]} {d.year}",
    lambda d: f"{d.year}/{d.month}/{d.day}",
    lambda d: f"{d.day}. {month(d, 'de')} {d.year}",
    lambda d: f"{d.day}.{d.month}.{d.year}",
    lambda d: f"{d.day:02}.{d.month:02}.{d.year}",
    lambda d: f"{d.day}. {month(d, 'de')[:3]}. {d.year}",
    lambda d: f"{weekday(d, 'de')}, {d.day}. {month(d, 'de')} {d.year}",
    lambda d: f"{weekday(d, 'de')[:2]}, {d.day:02}.{d.month:02}.{d.year}",
    lambda d: f"am {d.day}. {month(d, 'de')} {d.year}",
    lambda d: f"den {d.day:02}. {month(d, 'de')} {d.year}",
    lambda d: f"der {d.day}. Tag im {month(d, 'de')} {d.year}",
    lambda d: f"{weekday(d, 'de')}, der {d.day}. {month(d, 'de')} des Jahres {d.year}",
)


def month(day: date, language: str = "en") -> str:
    """Its name."""
    return MONTHS[language].split()[day.month - 1]


def weekday(day: date, language: str = "en") -> str:
    """Its name."""
    return DAYS[language].split()[day.weekday()]


def ordinal(day: date) -> str:
    """1st, 2nd, 3rd, 4th."""
    last = 0 if 10 < day.day < 14 else day.day % 10
    return f"{day.day}{({1: 'st', 2: 'nd', 3: 'rd'}).get(last, 'th')}"


def rows(train: int, test: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows of `source` and `target`; no date of the test ones is among the others."""
    days = [FIRST + timedelta(each) for each in range((LAST - FIRST).days + 1)]
    random.Random(13).shuffle(days)
    drawn = random.Random(14)
    said = [
        {"source": drawn.choice(SPELLINGS)(day), "target": day.isoformat()}
        for day in days[:test] + drawn.choices(days[test:], k=train)
    ]
    return said[test:], said[:test]
