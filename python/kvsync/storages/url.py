r"""Storage URLs: distinguish them from paths, parse them, and hide their secrets.

A text is a URL if it begins with `scheme://` (a scheme has at least two characters, so `C:\data` is a path), or if it
is `memory:` with or without a name. Everything else is a path, including `notes:2024` and `./memory:x`.

A password that is not percent-encoded may end anywhere. So a URL is shown only if it can be read in one way: at most
one `@`, and that before the first `/`, `?` or `#`. Of any other one only the scheme is shown.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kvsync.errors import UsageError

__all__ = ["Endpoint", "Url", "parse_url", "redact", "redact_url", "scheme_of"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+)://", re.ASCII)
_MEMORY = re.compile(r"memory:[A-Za-z0-9_.\-]*\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,40}\Z", re.ASCII)
_HIDDEN = "***"

# What a URL is made of

_PATHS = frozenset({"az", "file", "gs", "lmdb", "memory", "s3", "sqlite"})
"""Schemes whose URLs hold no login, so that an `@` in the path is part of a name."""

_SERVERS = frozenset({"http", "https", "nats", "postgres", "postgresql", "redis", "rediss"})
_LONE_USERS = frozenset({"postgres", "postgresql"})
"""Schemes where a login without a password is a user's name; elsewhere it may be a token."""

_AUTHORITY_END = re.compile(r"[/?#]")
# Not compiled here: that would take time in every command, and few need these.
_HOST = r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.~%-]+)?\]|[\w.,~%-]*)(?::(?P<port>[0-9]{0,5}))?\Z"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BARE_NAME = re.compile(r"[\w.~%-]*\Z")
_PORT_MAX = 65535

ADVICE = "percent-encode @ / ? # % in the password, as %40 %2F %3F %23 %25"

# What may be shown of the parameters

_SHOWN = frozenset(
    {
        *("account", "concurrency", "endpoint", "lease", "prefix", "region"),
        *("busy_timeout", "create", "expires", "modified", "table", "unit", "value"),
        *("application_name", "channel_binding", "connect_timeout", "dbname", "gssencmode", "host", "hostaddr"),
        *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "lock_timeout", "port"),
        *("schema", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert", "target_session_attrs"),
        *("tcp_user_timeout", "user", "db", "map_size", "empty_dirs", "links", "meta"),
        *("ca", "cert", "cert_key", "cluster", "evicting", "foreign", "hash", "timeout", "tls", "verify"),
    }
)
"""Parameters whose values are shown; those of all others may be secrets."""

_TABLE_KEY = "key"
"""The column of a table's keys; elsewhere a `key` is a secret."""

_TABLES = frozenset({"postgres", "postgresql", "sqlite"})

_SECRETS = frozenset(
    {
        *("access_key_id", "account_key", "sas_key", "secret_access_key", "service_account", "session_token"),
        *("credentials", "key", "passfile", "password", "sig", "sslpassword", "token"),
    }
)
"""Names of parameters that are known to be secrets."""

# Where a URL ends in a text

_START_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,40}://", re.ASCII)
_NEXT_IN_TEXT = rf"(?ai)[\s'\"<>](?:{'|'.join(sorted(_PATHS | _SERVERS))})://"
_DELIMITER = re.compile(r"[\s'\"<>]")
_PUNCTUATION = ".,;:!)`"


class Endpoint(NamedTuple):
    """The address of a server and the login; its text never shows a secret.

    Attributes:
        host: a name or an address, without brackets; empty if the URL has none.
        port: None where the URL has none.
        user: decoded, None where the URL has none; not part of the repr, since a token stands in the same place.
        password: decoded, None where the URL has none; not part of the repr.
    """

    host: str
    port: int | None
    user: str | None
    password: str | None

    def __repr__(self) -> str:
        """Return the class and the address, without the login."""
        return f"Endpoint(host={self.host!r}, port={self.port!r})"

    def scrub(self, text: str) -> str:
        """Remove the password, and secrets in URLs, from a text such as a client library's message."""
        if self.password:
            for form in (self.password, _quoted(self.password, safe=""), repr(self.password)[1:-1]):
                text = text.replace(form, _HIDDEN)
        return redact(text)


class Url(NamedTuple):
    """A parsed storage URL; its text and its repr never show a secret.

    Attributes:
        scheme: in lower case, without the colon.
        raw: the URL as given, including secrets.
        authority: the part between `//` and the next `/`, decoded.
        path: the part after that, decoded, with its leading `/`.
        query: the parameters by name.
    """

    scheme: str
    raw: str
    authority: str
    path: str
    query: dict[str, str]

    def __repr__(self) -> str:
        """Return the class and the URL without secrets."""
        return f"Url({str(self)!r})"

    def __str__(self) -> str:
        """Return the URL without secrets."""
        return redact_url(self.raw)

    def endpoint(self) -> Endpoint:
        """Parse the authority.

        >>> parse_url("redis://me:p%40ss@[::1]:6379/0").endpoint()
        Endpoint(host='::1', port=6379)

        Raises:
            UsageError: there is no valid host, or the port is not a number from 0 to 65535.
        """
        userinfo, at, address = _split(self.raw).authority.rpartition("@")
        found = re.match(_HOST, address)
        if found is None:
            raise _unreadable(self.scheme, "the host is not valid")
        host = found["host"].strip("[]")
        host = _unquoted(host) if "%" in host else host.lower()
        user, colon, password = userinfo.partition(":")
        return Endpoint(
            host,
            int(found["port"]) if found["port"] else None,
            _unquoted(user) or None if at else None,
            _unquoted(password) if colon else None,
        )

    def options(self, *allowed: str) -> dict[str, str]:
        """Return the query parameters, which must be among the `allowed` ones.

        Raises:
            UsageError: a parameter is not among them.
        """
        unknown = next((name for name in self.query if name not in allowed), None)
        if unknown is not None:
            known = ", ".join(allowed) or "none"
            # Its name is shown only where it cannot be the rest of a secret that contains a "?" or "&".
            shown = f"parameter {unknown!r}" if f"{unknown}=" in f"{self}=" else "text after a ? or &"
            message = f"unknown {shown} in the URL; {self.scheme}: knows {known}"
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
        UsageError: it is not a URL, can be read in more than one way, or has a parameter twice.
    """
    scheme = scheme_of(text)
    if scheme is None:
        message = f"not a URL: {redact(text)!r}"
        raise UsageError(message)
    parts = _split(text)
    problem = parts.problem()
    # An adapter whose URLs hold no login says itself what is wrong, and where a login belongs.
    if problem is not None and scheme not in _PATHS:
        raise _unreadable(scheme, problem)
    pairs = _parameters(parts.query)
    query = dict(pairs)
    if len(query) < len(pairs):
        message = "a parameter is in the URL twice"
        raise UsageError(message, storage=redact_url(text))
    return Url(scheme, text, _unquoted(parts.authority), _unquoted(parts.path), query)


def redact(text: str) -> str:
    """Replace every secret by `***` in `text`, a URL or a message that contains URLs.

    >>> redact("cannot reach redis://me:hunter2@host/0?token=abc&timeout=1: refused")
    'cannot reach redis://me:***@host/0?token=***&timeout=1: refused'
    """
    if "://" not in text:
        return text
    shown, done = "", 0
    while found := _START_IN_TEXT.search(text, done):
        end = _end_of_url(text, found.end())
        shown += text[done : found.start()] + redact_url(text[found.start() : end])
        done = end
    return shown + text[done:]


def redact_url(url: str) -> str:
    """Replace every secret by `***` in one URL, whatever characters it contains.

    >>> redact_url("redis://me:hunter2@host/0?token=abc&timeout=1"), redact_url("redis://me:hun@ter2@host/0")
    ('redis://me:***@host/0?token=***&timeout=1', 'redis://***')
    """
    if "://" not in url:
        return url
    parts = _split(url)
    if parts.problem() is not None:
        return f"{parts.prefix}{_HIDDEN}"
    shown = f"{parts.prefix}{_redact_login(parts)}{parts.path}"
    return f"{shown}?{_redact_query(parts)}" if parts.has_query else shown


def _end_of_url(text: str, start: int) -> int:
    """Return where a URL ends whose scheme ends at `start`.

    It ends at a blank or quote, unless an `@` follows in the same line: then everything before may belong to a
    password that was not percent-encoded.
    """
    newline = text.find("\n", start)
    limit = len(text) if newline < 0 else newline
    if following := re.compile(_NEXT_IN_TEXT).search(text, start, limit):
        limit = following.start()
    after_login = max(start, text.rfind("@", start, limit) + 1)
    delimiter = _DELIMITER.search(text, after_login, limit)
    end = delimiter.start() if delimiter else limit
    return max(after_login, start + len(text[start:end].rstrip(_PUNCTUATION)))


class _Parts(NamedTuple):
    """A URL in its parts, as they are written; `prefix` is the scheme with what follows it up to the authority."""

    scheme: str
    prefix: str
    authority: str
    path: str
    has_query: bool
    query: str

    def problem(self) -> str | None:
        """Return why the URL cannot be read in one way only, in words that show nothing of it."""
        if self.scheme not in _PATHS:
            return self._problem_of_server()
        if "@" in self.query:
            return "an @ follows the ?"
        return None if _BARE_NAME.match(self.authority) else "it holds a login"

    def _problem_of_server(self) -> str | None:
        userinfo, _, address = self.authority.rpartition("@")
        found = re.match(_HOST, address)
        if "@" in self.path or "@" in self.query:
            return "an @ follows a /, ? or #"
        if "@" in userinfo:
            return "it holds more than one @"
        if _BAD_ESCAPE.search(self.authority):
            return "a % is not followed by two hexadecimal digits"
        if found is None or int(found["port"] or 0) > _PORT_MAX or self.path.startswith("#"):
            return "the host is not valid, or the port is not a number from 0 to 65535"
        return None


def _split(url: str) -> _Parts:
    """Split a URL where its parts end."""
    scheme, colon, rest = url.partition(":")
    if not rest.startswith("//"):
        return _Parts(scheme.lower(), scheme + colon, "", rest, has_query=False, query="")
    before_query, mark, query = rest[2:].partition("?")
    # In a URL without a login, a "#" is a character as any other.
    end = before_query.find("/") if scheme.lower() in _PATHS else _first(_AUTHORITY_END, before_query)
    end = len(before_query) if end < 0 else end
    return _Parts(scheme.lower(), f"{scheme}://", before_query[:end], before_query[end:], bool(mark), query)


def _first(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return found.start() if found else -1


def _unreadable(scheme: str, reason: str) -> UsageError:
    message = f"the URL cannot be read, since {reason}: {ADVICE}"
    return UsageError(message, storage=f"{scheme}://{_HIDDEN}")


def _redact_login(parts: _Parts) -> str:
    userinfo, at, address = parts.authority.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    if colon:
        return f"{user}:{_HIDDEN}@{address}"
    if user and parts.scheme not in _LONE_USERS:
        return f"{_HIDDEN}@{address}"
    return f"{user}{at}{address}"


def _redact_query(parts: _Parts) -> str:
    shown = _SHOWN | {_TABLE_KEY} if parts.scheme in _TABLES else _SHOWN
    result = []
    after_secret = False
    for part in parts.query.split("&"):
        name, equals, value = part.partition("=")
        plain = _unquoted(name.replace("+", " "))
        if plain in shown:
            result.append(f"{name}{equals}{_redact_address(value)}")
        elif not equals or not _NAME.match(plain) or (after_secret and plain not in _SECRETS):
            # A secret may contain a "&" that is not percent-encoded: then this is the rest of it.
            result.append(_HIDDEN if part else "")
        else:
            result.append(f"{name}={_HIDDEN if value else ''}")
            after_secret = True
    return "&".join(result)


def _redact_address(value: str) -> str:
    """Return the value of a parameter; the address of a server may contain a login of its own."""
    address = _unquoted(value.replace("+", " "))
    return _quoted(redact_url(address), safe=":/*") if "://" in address else value


# Most URLs need none of these, and `urllib` takes long to load


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # noqa: PLC0415

    return unquote(text)


def _quoted(text: str, *, safe: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415

    return quote(text, safe=safe)


def _parameters(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    from urllib.parse import parse_qsl  # noqa: PLC0415

    return parse_qsl(query, keep_blank_values=True)
