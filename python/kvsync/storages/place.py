"""A storage by the name that somebody gave it."""

from __future__ import annotations

from kvsync.storages.url import redact

__all__ = ["Place"]


class Place(str):
    """A path or URL with a name, which the storage goes by in all output.

    >>> place = Place.named("redis://me:hunter2@host/0", "cache")
    >>> place.name, place
    ('cache', 'redis://me:***@host/0')
    """

    __slots__ = ("name",)

    name: str

    @classmethod
    def named(cls, text: str, name: str) -> Place:
        """Return a path or URL with a name."""
        place = cls(text)
        place.name = name
        return place

    def __repr__(self) -> str:
        """Return the text without secrets, as that of any path or URL."""
        return repr(redact(str(self)))
