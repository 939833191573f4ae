"""Sizes and times in few characters, for people."""

from __future__ import annotations

__all__ = ["bytes_text", "seconds_text"]

UNITS = ("kB", "MB", "GB", "TB", "PB")
STEP = 1000
SHORT_SECONDS = 100
MINUTE = 60


def bytes_text(size: int) -> str:
    """Return a number of bytes, with decimal units.

    >>> bytes_text(999), bytes_text(1_249), bytes_text(999_960), bytes_text(5_000_000_000)
    ('999 B', '1.2 kB', '1.0 MB', '5.0 GB')
    """
    number, unit = float(size), "B"
    for greater in UNITS:
        if round(number, 1) < STEP:
            break
        number, unit = number / STEP, greater
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """Return a time in its two greatest units.

    >>> seconds_text(0.04), seconds_text(12.3), seconds_text(125), seconds_text(7_500), seconds_text(200_000)
    ('0 s', '12 s', '2 min 05 s', '2 h 05 min', '55 h 33 min')
    """
    whole = round(seconds)
    if whole < SHORT_SECONDS:
        return f"{whole} s"
    minutes, rest = divmod(whole, MINUTE)
    if minutes < MINUTE:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // MINUTE} h {minutes % MINUTE:02} min"
