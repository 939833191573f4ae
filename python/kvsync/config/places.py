"""A storage of the file as a URL or path: relative to the file, with its secrets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvsync.config.secrets import expanded, printed_by
from kvsync.errors import UsageError
from kvsync.storages.place import Place
from kvsync.storages.url import redact, scheme_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["place_of", "shown_url", "unnamed", "url_of"]

URL = "url"
PASSWORD = "password"  # noqa: S105 - the name of a key
COMMAND = "_command"
FILES = ("lmdb", "sqlite")
"""Schemes whose URLs may name a relative path."""


def url_of(entry: object, whose: str) -> str:
    """Return the URL or path of a storage as the file has it.

    Raises:
        UsageError: it has none.
    """
    url = entry.get(URL) if isinstance(entry, dict) else entry
    if isinstance(url, str) and url:
        return url
    message = f"{whose} must be a path or a URL, or a table with `url`"
    raise UsageError(message)


def shown_url(entry: object, whose: str) -> str:
    """Return the URL or path of a storage with the other keys of its table, as the file has them."""
    url = url_of(entry, whose)
    others = [f"{key}={value}" for key, value in entry.items() if key != URL] if isinstance(entry, dict) else []
    return f"{url}{'&' if '?' in url else '?'}{'&'.join(others)}" if others else url


def place_of(name: str, entry: object, folder: str) -> Place:
    """Return where a storage is, with its name.

    Args:
        name: the name.
        entry: what the file says of it.
        folder: that of the file, which relative paths begin at.

    Raises:
        UsageError: that is no storage, or a secret cannot be had.
    """
    whose = f"the storage {name!r}"
    url = _anchored(expanded(url_of(entry, whose), whose), folder)
    if isinstance(entry, dict):
        values = dict(_value(key, value, folder, whose) for key, value in entry.items() if key != URL)
        password = values.pop(PASSWORD, None)
        url = _with_parameters(url, values)
        url = url if password is None else _with_password(url, password, whose)
    return Place.named(url, name)


def unnamed(text: str, folder: str) -> Place:
    """Return where a storage is that a pair names by its path or URL; it goes by what the file says.

    Raises:
        UsageError: a secret cannot be had.
    """
    return Place.named(_anchored(expanded(text, "a pair"), folder), redact(text))


def _value(key: str, value: object, folder: str, whose: str) -> tuple[str, str]:
    """Return the name and the text of a key of a table."""
    if key.endswith(COMMAND):
        return key.removesuffix(COMMAND), printed_by(value, folder, f"{key!r} of {whose}")
    if isinstance(value, str):
        return key, expanded(value, whose)
    if isinstance(value, bool | int | float):
        return key, str(value).lower()
    message = f"{key!r} of {whose} must be a text or a number"
    raise UsageError(message)


def _anchored(url: str, folder: str) -> str:
    """Return a path, or the URL of a file, so that it does not depend on the working directory."""
    scheme = scheme_of(url)
    if scheme is None:
        return os.path.join(folder, os.path.expanduser(url))
    start = f"{scheme}:///"
    if scheme not in FILES or not url.lower().startswith(start):
        return url
    from urllib.parse import quote, unquote  # noqa: PLC0415 - few files need it

    path, mark, query = url[len(start) :].partition("?")
    if not path:
        return url
    absolute = os.path.join(folder, os.path.expanduser(unquote(path)))
    return f"{start}{quote(absolute, safe='/')}{mark}{query}"


def _with_parameters(url: str, values: Mapping[str, str]) -> str:
    if not values:
        return url
    from urllib.parse import quote, urlencode  # noqa: PLC0415

    url = url if scheme_of(url) else f"file://{quote(url, safe='/')}"
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values, quote_via=quote)}"


def _with_password(url: str, password: str, whose: str) -> str:
    """Return a URL with a password, which may hold any character, in its login.

    Raises:
        UsageError: there is no login in such a URL, or it has a password.
    """
    from urllib.parse import quote  # noqa: PLC0415

    scheme, mark, rest = url.partition("://")
    end = next((at for at, character in enumerate(rest) if character in "/?#"), len(rest))
    user, _, address = rest[:end].rpartition("@")
    if not mark or not address or ":" in user:
        message = f"{whose} has a password, and its URL has no place for one, or has one already"
        raise UsageError(message)
    return f"{scheme}://{user}:{quote(password, safe='')}@{address}{rest[end:]}"
