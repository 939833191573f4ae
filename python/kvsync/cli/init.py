"""`kvsync init`: write a `kvsync.toml` with one pair, by asking or by what the command line says."""

import json
import os
import re
import sys
from typing import Annotated, NamedTuple

from kvsync.cli.confirm import asked, has_terminal
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.options import CONFLICT, Option, flag
from kvsync.cli.output import Output, write_line
from kvsync.cli.sync import PLAIN
from kvsync.config import FILE_NAME
from kvsync.config.file import is_name, read
from kvsync.errors import UsageError
from kvsync.policy import PolicyName
from kvsync.storages.url import redact, scheme_of

__all__ = ["init", "quoted"]

_LOGIN = re.compile(r"(?P<scheme>[^:/?#]+://)(?P<user>[^:@/?#]*):[^@]*@")
_OTHER = re.compile(r"[^A-Za-z0-9_.\-]+")


class Entry(NamedTuple):
    """A storage as the file has it.

    Attributes:
        name: of the storage.
        url: its path or URL, without a password.
        variable: the environment variable that the password is taken from; empty where it needs none.
    """

    name: str
    url: str
    variable: str = ""


def init(
    source: Annotated[str | None, flag(help="A folder or a URL; asked for if it is not given.")] = None,
    target: Annotated[str | None, flag(help="The other storage.")] = None,
    /,
    *,
    source_name: Annotated[str | None, flag(help="What to call the source. Default: the end of its path.")] = None,
    target_name: Annotated[str | None, flag(help="What to call the target.")] = None,
    pair: Annotated[str | None, flag(help="What to call the pair. Default: the name of the source.")] = None,
    conflict: Annotated[PolicyName, Option(help=CONFLICT)] = "latest",
    yes: Annotated[bool, flag(help="Do not ask for confirmation.")] = False,
    output: Output = PLAIN,
) -> int:
    """Write kvsync.toml, with two storages and a pair, into this folder.

    On a terminal it asks for what is not given. A password in a URL does not go
    into the file: the environment variable that it is taken from does.
    """
    if os.path.lexists(FILE_NAME):
        message = f"{FILE_NAME} exists: edit it; `kvsync pairs` shows what it says"
        raise UsageError(message)
    asks = has_terminal() and not yes
    one = _entry("source", source, source_name, "", asks=asks)
    other = _entry("target", target, target_name, one.name, asks=asks)
    name = _named(pair or (_answer("Name of the pair", one.name) if asks else one.name))
    text = _text(one, other, name, conflict)
    if asks and not asked(text.splitlines(), f"Write that to {FILE_NAME}?"):
        output.warn("nothing was written")
        return FAILED
    with open(FILE_NAME, "x", encoding="utf-8") as file:
        file.write(text)
    read(FILE_NAME).pair(name)
    output.result({"config": FILE_NAME, "pair": name, "variables": [each.variable for each in (one, other) if each[2]]})
    output.say(f"{FILE_NAME} is written: `kvsync run {name}` syncs {one.name} and {other.name}")
    for each in (one, other):
        if each.variable:
            output.note(f"{each.name} takes its password from the environment variable {each.variable}")
    return DONE


def _entry(which: str, url: str | None, name: str | None, taken: str, *, asks: bool) -> Entry:
    """Return a storage; ask for what is not given.

    Raises:
        UsageError: it is not given and nobody can be asked, or a name is none.
    """
    if not url:
        if not asks:
            message = f"name the {which}: `kvsync init SOURCE TARGET`; it is asked for on a terminal only"
            raise UsageError(message)
        url = _answer(f"The {which}, a folder or a URL", "")
    login = _LOGIN.match(url)
    if "***" in redact(url if login is None else f"{login['scheme']}{url[login.end() :]}"):
        message = (
            f"the URL of the {which} holds a secret, which does not belong into the file: leave it out here, and put a "
            "${VARIABLE} in its place into the file"
        )
        raise UsageError(message)
    suggested = _suggested(url, which, taken)
    name = _named(name or (_answer("Its name", suggested) if asks else suggested))
    if name == taken:
        message = f"both storages are called {name!r}: give one another name, with --target-name"
        raise UsageError(message)
    if login is None:
        return Entry(name, url)
    variable = re.sub(r"\W", "_", f"{name}_PASSWORD", flags=re.ASCII).upper()
    variable = f"_{variable}" if variable[0].isdigit() else variable
    return Entry(name, f"{login['scheme']}{login['user']}@{url[login.end() :]}", variable)


def _suggested(url: str, which: str, taken: str) -> str:
    """Return a name for a storage: the end of its path, without the suffix of a file, or its scheme."""
    path = url.partition("?")[0].rstrip("/")
    end = os.path.splitext(path.rpartition("/")[2])[0]
    for word in (end, scheme_of(url) or "", which):
        name = _OTHER.sub("-", word).strip("-.")
        if name != taken and is_name(name):
            return name
    return which


def _named(name: str) -> str:
    if is_name(name):
        return name
    message = f"{name!r} cannot be a name: use letters, digits, and after the first of them also . - and _"
    raise UsageError(message)


def _answer(question: str, default: str) -> str:
    write_line(sys.stderr, f"{question}{f' [{default}]' if default else ''}:")
    return sys.stdin.readline().strip() or default


def _text(one: Entry, other: Entry, pair: str, conflict: str) -> str:
    lines = ["# Storages and pairs of kvsync; relative paths begin at this file. See docs/how-to/named-pairs.md.", ""]
    lines += ["[storages]", *(f"{_key(each.name)} = {_storage(each)}" for each in (one, other)), ""]
    lines += [f"[pairs.{_key(pair)}]", f"source = {quoted(one.name)}", f"target = {quoted(other.name)}"]
    lines += [] if conflict == "latest" else [f"conflict = {quoted(conflict)}"]
    return "\n".join(lines) + "\n"


def _storage(entry: Entry) -> str:
    if not entry.variable:
        return quoted(entry.url)
    return f"{{ url = {quoted(entry.url)}, password = {quoted(f'${{{entry.variable}}}')} }}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_\-]+", name) else quoted(name)


def quoted(text: str) -> str:
    """Return a text as a basic string of TOML, which is one of JSON but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
