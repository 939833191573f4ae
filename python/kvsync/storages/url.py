r"""Storage URLs: distinguish them from paths, parse them, and hide their secrets.

A text is a URL if it begins with `scheme://` (a scheme has at least two characters, so `C:\data` is a path), or if it
is `memory:` with or without a name. Everything else is a path, including `notes:2024` and `./memory:x`.

Only `redact` knows what a secret looks like, in names of storages and in messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlsplit

from kvsync.errors import UsageError

__all__ = ["Endpoint", "Url", "parse_url", "redact", "scheme_of"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+)://", re.ASCII)
_MEMORY = re.compile(r"memory:[A-Za-z0-9_.\-]*\Z", re.ASCII)
# A URL in running text ends at a blank or quote, unless an "@" follows in the same line: then everything before it may
# belong to a password that was not percent-encoded.
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://(?:[^\n/@]*:[^\n@]*@)?[^\s'\"<>]*", re.ASCII)
_PORT = re.compile(r"[0-9]*\Z", re.ASCII)
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|signature|auth|\bsig\b|(?:api|access|account|private|shared|sas|encryption)[_\-]?key|^key$",
    re.IGNORECASE | re.ASCII,
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,40}\Z", re.ASCII)
_HIDDEN = "***"
_TABLES = {"postgres", "postgresql", "sqlite"}
_TOKENS = {"nats", "tls"}
"""Schemes of servers that accept a token instead of a user."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a server and the login; its text never shows a secret.

    Attributes:
        host: a name or an address, without brackets; empty if the URL has none.
        port: None where the URL has none.
        user: decoded, None where the URL has none.
        password: decoded, None where the URL has none; not part of the repr.
    """

    host: str
    port: int | None
    user: str | None
    password: str | None = field(repr=False)

    def scrub(self, text: str) -> str:
        """Remove the password, and secrets in URLs, from a text such as a client library's message."""
        shown = redact(text)
        return shown.replace(self.password, _HIDDEN) if self.password else shown


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed storage URL; its text never shows a secret.

    Attributes:
        scheme: in lower case, without the colon.
        raw: the URL as given, including secrets; not part of the repr.
        authority: the part between `//` and the next `/`, decoded.
        path: the part after that, decoded, with its leading `/`.
        query: the parameters by name.
    """

    scheme: str
    raw: str = field(repr=False)
    authority: str = field(repr=False)
    path: str
    query: dict[str, str] = field(repr=False)

    def __str__(self) -> str:
        """Return the URL without secrets."""
        return redact(self.raw)

    def endpoint(self) -> Endpoint:
        """Parse the authority.

        >>> parse_url("redis://me:p%40ss@[::1]:6379/0").endpoint()
        Endpoint(host='::1', port=6379, user='me')

        Raises:
            UsageError: there is no valid host, or the port is not a number from 0 to 65535.
        """
        try:
            parts = urlsplit(self.raw)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            message = f"the host is not valid, or the port is not a number from 0 to 65535: {self}"
            raise UsageError(message, storage=str(self)) from error
        user = unquote(parts.username) if parts.username is not None else None
        password = unquote(parts.password) if parts.password is not None else None
        return Endpoint(unquote(host), port, user or None, password)

    def options(self, *allowed: str) -> dict[str, str]:
        """Return the query parameters, which must be among the `allowed` ones.

        Raises:
            UsageError: a parameter is not among them.
        """
        unknown = sorted(set(self.query) - set(allowed))
        if unknown:
            known = ", ".join(allowed) or "none"
            # Anything but a name may be the rest of a password that contains a "?".
            shown = repr(unknown[0]) if _NAME.match(unknown[0]) else "(the text after the first `?`)"
            message = f"unknown parameter {shown} in the URL; {self.scheme}: knows {known}"
            raise UsageError(message, storage=str(self))
        return dict(self.query)


def scheme_of(text: str) -> str | None:
    r"""Return the scheme of a URL in lower case, or None where `text` is a path.

    >>> scheme_of("sqlite:///app.db"), scheme_of("notes:2024/app.db"), scheme_of(r"C:\data")
    ('sqlite', None, None)
    """
    if _MEMORY.match(text):
        return "memory"
    found = _SCHEME.match(text)
    return found[1].lower() if found else None


def parse_url(text: str) -> Url:
    """Parse a URL.

    Raises:
        UsageError: it is not a URL, or has a parameter twice.
    """
    scheme = scheme_of(text)
    if scheme is None:
        message = f"not a URL: {redact(text)!r}"
        raise UsageError(message)
    rest, _, query_text = text[len(scheme) + 1 :].partition("?")
    authority, path = "", rest
    if rest.startswith("//"):
        authority, slash, tail = rest[2:].partition("/")
        path = slash + tail
    pairs = parse_qsl(query_text, keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs):
        message = "a parameter is in the URL twice"
        raise UsageError(message, storage=redact(text))
    return Url(scheme, text, unquote(authority), unquote(path), query)


def redact(text: str) -> str:
    """Replace every secret by `***` in `text`, a URL or a message that contains URLs.

    >>> redact("redis://me:hunter2@host/0?token=abc&db=1")
    'redis://me:***@host/0?token=***&db=1'
    """
    return _URL_IN_TEXT.sub(lambda found: _redact_url(found[0]), text)


def _redact_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    before_query, mark, query = rest.partition("?")
    if "@" in query and "@" not in before_query and ":" in before_query.partition("/")[0]:
        # With a raw "?" in a password, only the text after the last "@" is certain not to be secret.
        before_query, mark, query = rest, "", ""
    shown = f"{scheme}://{_redact_userinfo(before_query, token=scheme.lower() in _TOKENS)}"
    if mark:
        shown += mark + "&".join(_redact_parameter(scheme, part) for part in query.split("&"))
    return shown


def _redact_userinfo(before_query: str, *, token: bool) -> str:
    authority = before_query.partition("/")[0]
    if "@" in authority:
        path = before_query[len(authority) :]
        userinfo, _, host = _cut(authority, path) if "@" in path else before_query.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        if token and not colon:
            return f"{_HIDDEN}@{host}"
        return f"{user}:{_HIDDEN}@{host}" if colon else before_query
    user, colon, rest = before_query.partition(":")
    # A raw "/" in a password ends the authority too early; then the text after the colon is not a port number.
    if colon and "@" in rest and not _PORT.match(authority.partition(":")[2]):
        return f"{user}:{_HIDDEN}@{rest.rpartition('@')[2]}"
    return before_query


def _cut(authority: str, path: str) -> tuple[str, str, str]:
    userinfo, at, host = authority.rpartition("@")
    return userinfo, at, host + path


def _redact_parameter(scheme: str, part: str) -> str:
    name, _, value = part.partition("=")
    plain = unquote_plus(name)
    # If a storage is a table, `key` names a column.
    secret = _SECRET_NAME.search(plain) and not (plain == "key" and scheme.lower() in _TABLES)
    if secret and value:
        return f"{name}={_HIDDEN}"
    address = unquote_plus(value)
    # The address of a server may contain a login of its own.
    return f"{name}={quote(_redact_url(address), safe=':/@*')}" if "://" in address else part
