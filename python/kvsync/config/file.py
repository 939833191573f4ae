"""`kvsync.toml` as it was read: storages, pairs and groups by name, each checked when it is asked for."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.config.places import place_of, shown_url, unnamed
from kvsync.errors import UsageError
from kvsync.options import IN_CODE, Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kvsync.storages.place import Place

__all__ = ["Config", "Pair", "is_name", "option_names", "read"]

SIMILAR = 0.6
TABLES = ("storages", "pairs", "groups")
ENDS = ("source", "target")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\Z", re.ASCII)


def is_name(text: str) -> bool:
    """Whether a text may be the name of a storage, pair or group: neither a URL nor anything with a slash is.

    >>> is_name("notes-2024"), is_name("./notes"), is_name("memory:x")
    (True, False, False)
    """
    return _NAME.match(text) is not None


def option_names() -> list[str]:
    """Return the names of all options that a pair may have: those of a run, but for what only a program can give."""
    return [field.name for field in fields(Options) if field.init and field.metadata != IN_CODE]


class Pair(NamedTuple):
    """Two storages that are synced by a name.

    Attributes:
        name: of the pair.
        source, target: names of storages, or paths or URLs.
        options: of each run, as in `kvsync.sync`.
    """

    name: str
    source: str
    target: str
    options: Mapping[str, Any]


class Config:
    """What a file says.

    Args:
        path: of the file.
        tables: what it holds.

    Raises:
        UsageError: its outline is wrong. What a storage or a pair says is checked when it is asked for, so that one
            that is wrong is in the way of no other.
    """

    def __init__(self, path: str, tables: Mapping[str, Any]) -> None:
        self.path = path
        self._folder = os.path.dirname(os.path.abspath(path))
        self._check_keys("", tables, TABLES)
        self.storages = self._named("storages", tables)
        self.pairs = self._named("pairs", tables)
        self.groups = self._named("groups", tables)
        if both := next((name for name in self.groups if name in self.pairs), None):
            raise self._wrong(f"{both!r} is a pair and a group; give them two names")

    def place(self, text: str) -> Place:
        """Return where a storage is: by its name, or by a path or URL, which has a slash or a colon.

        Raises:
            UsageError: there is no storage of that name, or it cannot be told where it is.
        """
        if text not in self.storages and not is_name(text):
            return unnamed(text, self._folder)
        return place_of(text, self._known("storage", text, self.storages), self._folder)

    def shown(self, name: str) -> str:
        """Return where a storage is, as the file says it: with the names of variables and commands."""
        return shown_url(self.storages[name], f"the storage {name!r}")

    def pair(self, name: str) -> Pair:
        """Return a pair.

        Raises:
            UsageError: there is none of that name, or something is wrong with it.
        """
        where = f"[pairs.{name}]"
        entry = self._known("pair", name, self.pairs)
        if not isinstance(entry, dict):
            raise self._wrong(f"{where} must be a table")
        self._check_keys(where, entry, [*ENDS, *option_names()])
        source, target = (self._end(where, entry, end) for end in ENDS)
        options = {"scan": True} | {key: value for key, value in entry.items() if key not in ENDS}
        try:
            Options(**options)
        except UsageError as error:
            raise self._wrong(f"{where}: {error.message}") from error
        return Pair(name, source, target, options)

    def members(self, names: Sequence[str]) -> list[str]:
        """Return the names of pairs, each once, with those of a group in its place.

        Raises:
            UsageError: there is neither a pair nor a group of a name.
        """
        found: dict[str, None] = {}
        for name in names:
            known = self._known("pair or group", name, {**self.pairs, **self.groups})
            found.update(dict.fromkeys(self._group(name, known) if name in self.groups else [name]))
        return list(found)

    def _group(self, name: str, entry: object) -> list[str]:
        if not isinstance(entry, list) or not all(isinstance(each, str) for each in entry):
            raise self._wrong(f"the group {name!r} must be a list of names of pairs")
        for each in entry:
            self._known("pair", each, self.pairs, f", which the group {name!r} names")
        return entry

    def _end(self, where: str, entry: Mapping[str, Any], end: str) -> str:
        text = entry.get(end)
        if not isinstance(text, str) or not text:
            raise self._wrong(f"{where} needs {end}: the name of a storage")
        if is_name(text):
            self._known("storage", text, self.storages, f", which {where} names")
        return text

    def _named(self, table: str, tables: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a table of named things holds.

        Raises:
            UsageError: it is no table, or a name is none.
        """
        entries = tables.get(table, {})
        if not isinstance(entries, dict):
            raise self._wrong(f"{table} must be a table: [{table}]")
        if bad := next((name for name in entries if not is_name(name)), None):
            what = "letters, digits, and after the first of them also . - and _"
            raise self._wrong(f"{bad!r} in [{table}] cannot be a name; use {what}")
        return entries

    def _known(self, kind: str, name: str, entries: Mapping[str, Any], why: str = "") -> Any:
        if name in entries:
            return entries[name]
        raise self._wrong(f"there is no {kind} {name!r}{why}{_hint(name, entries)}")

    def _check_keys(self, where: str, entry: Iterable[str], allowed: Sequence[str]) -> None:
        if unknown := next((key for key in entry if key not in allowed), None):
            raise self._wrong(f"unknown key {unknown!r}{where and f' in {where}'}{_hint(unknown, allowed)}")

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self.path}: {what}")


def read(path: str) -> Config:
    """Read a file.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        with open(path, "rb") as file:
            return Config(path, tomllib.load(file))
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise UsageError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is no TOML: {error}"
        raise UsageError(message) from error


def _hint(word: str, names: Iterable[str]) -> str:
    """Return what was likely meant, or what there is, as the end of a sentence."""
    known = list(names)
    if close := difflib.get_close_matches(word, known, n=1, cutoff=SIMILAR):
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known)}" if known else "; there are none"
