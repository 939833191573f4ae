"""No secret of a URL is ever shown: not in names, not in errors, whatever characters it contains."""

from __future__ import annotations

import contextlib
import re
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsync
from kvsync.errors import KvsyncError, UsageError
from kvsync.storages import open_storage
from kvsync.storages.url import _SECRETS, _SHOWN, _TABLE_KEY, parse_url, redact, redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator

WORD = "SEKRIT"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:hunter2@host:6379/0", "redis://me:***@host:6379/0"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("redis://hunter2@host", "redis://***@host"),
        ("redis://me:hun:ter 2@host/a", "redis://me:***@host/a"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://[::1]:6379/0?prefix=a:", "redis://[::1]:6379/0?prefix=a:"),
        ("postgresql://me@host/d", "postgresql://me@host/d"),
        ("postgresql://%2Frun%2Fpg/d", "postgresql://%2Frun%2Fpg/d"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("s3://b?secret_access_key=hunter2&region=x", "s3://b?secret_access_key=***&region=x"),
        ("s3://b?aws_access_key_id=hunter2", "s3://b?aws_access_key_id=***"),
        ("s3://b?TOKEN=hunter2", "s3://b?TOKEN=***"),
        ("s3://b?%74oken=hunter2", "s3://b?%74oken=***"),
        ("s3://b?sas=hunter2", "s3://b?sas=***"),
        ("az://c?sig=hunter2&key=hunter2", "az://c?sig=***&key=***"),
        ("postgresql://h/d?password=a&hunter2&sslmode=x", "postgresql://h/d?password=***&***&sslmode=x"),
        ("postgresql://h/d?password=a&hunter2=b", "postgresql://h/d?password=***&***"),
        ("sqlite:///a.db?table=kv&key=k&value=v", "sqlite:///a.db?table=kv&key=k&value=v"),
        ("nats://hunter2@host:4222/b", "nats://***@host:4222/b"),
        ("nats://me:hunter2@host/b", "nats://me:***@host/b"),
        ("s3://b?endpoint=http%3A%2F%2Fme%3Ahunter2%40h%3A1", "s3://b?endpoint=http://me:***%40h:1"),
        ("s3://b?endpoint=http%3A%2F%2Fme%3Ahun%40ter2%40h", "s3://b?endpoint=http://***"),
        ("s3://b?endpoint=http://127.0.0.1:8333", "s3://b?endpoint=http://127.0.0.1:8333"),
        # What can be read in more than one way is not shown at all.
        ("redis://u:p@ss/w0rd@h/0", "redis://***"),
        ("redis://me:hun@ter2@host/a", "redis://***"),
        ("redis://me:hunter2/x@host/a", "redis://***"),
        ("redis://me:12/hunter2@host/a", "redis://***"),
        ("redis://me:hunter2?x@host/a", "redis://***"),
        ("redis://me:12#hunter2@host/a", "redis://***"),
        ("redis://me:hunter2", "redis://***"),
        ("redis://me:100%@host", "redis://***"),
        ("rediss://host:99999", "rediss://***"),
        ("typo://me:hun@ter2@host", "typo://***"),
        ("s3://key:hunter2@bucket/x", "s3://***"),
        ("s3://b?endpoint=http://me:hunter2@h:1&region=x", "s3://***"),
        ("sqlite://me:hunter2@h/a.db", "sqlite://***"),
        # Messages
        ("cannot reach redis://me:hunter2@host/0: refused", "cannot reach redis://me:***@host/0: refused"),
        ("redis://a:b@h <-> redis://c:d@h2, twice", "redis://a:***@h <-> redis://c:***@h2, twice"),
        ("(see redis://host).", "(see redis://host)."),
        ("no URL, user:hunter", "no URL, user:hunter"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert redact(shown) == shown


FORMS = (
    *("redis://user:{}@host/0", "redis://:{}@host:1", "rediss://user:{}@[::1]/0?prefix=a", "reddis://user:{}@host/0"),
    *("postgresql://user:{}@host/db?table=t", "nats://user:{}@host/bucket", "nats://x{}@host/bucket?timeout=1"),
    *("s3://key:{}@bucket/prefix", "s3://bucket/prefix?endpoint=http://user:{}@host:1", "gs://user:{}@b"),
)
PARAMETERS = ("s3://bucket?sas={}", "postgresql://host/db?password={}&table=t", "redis://host/0?password={}")

secrets_ = st.lists(st.sampled_from([WORD, *"@/?#%: '\\"]), min_size=1, max_size=8).map("".join)
parameters = st.lists(st.sampled_from([WORD, *"@/?#%: &=+"]), min_size=1, max_size=8).map("".join)


def shown_of(url: str) -> Iterator[str]:
    """Yield every text that opening a storage by this URL may show."""
    yield redact_url(url)
    try:
        storage, _ = open_storage(url)
    except KvsyncError as error:
        yield f"{error} {error!r} {error.args} {error.storage}"
        yield "".join(traceback.format_exception_only(error))
    else:
        with contextlib.closing(storage):
            yield f"{storage.name} {storage!r} {storage}"
    with contextlib.suppress(UsageError):
        parsed = parse_url(url)
        yield f"{parsed} {parsed!r}"
        yield repr(parsed.endpoint())


@settings(deadline=None)
@given(st.sampled_from(FORMS), secrets_)
def test_a_raw_password_is_never_shown(form: str, secret: str) -> None:
    if "x{}" in form:
        secret = secret.replace(":", "")  # a token with a ":" is a user with a password
    url = form.format(secret)
    for text in (*shown_of(url), redact(url), redact(f"cannot reach '{url}': refused, ask me")):
        assert WORD not in text


@settings(deadline=None)
@given(st.sampled_from(PARAMETERS), parameters)
def test_a_raw_parameter_is_never_shown(form: str, secret: str) -> None:
    for text in shown_of(form.format(secret)):
        assert WORD not in text


@settings(deadline=None)
@given(secrets_)
def test_an_encoded_password_is_read_as_it_was(secret: str) -> None:
    endpoint = parse_url(f"redis://user:{quote(secret, safe='')}@host/0").endpoint()
    assert (endpoint.user, endpoint.password, endpoint.host) == ("user", secret, "host")
    assert WORD not in f"{endpoint} {endpoint.scrub(f'cannot log in with {secret}')}"


@pytest.mark.parametrize("url", ["redis://u:p@ss/w0rd@h/0", "nats://u:a?b@h/b", "postgresql://u:100%@h/db"])
def test_the_error_says_what_to_do(url: str) -> None:
    with pytest.raises(UsageError, match=r"percent-encode @ / \? # % in the password") as caught:
        open_storage(url)
    assert caught.value.storage == f"{url.partition('://')[0]}://***"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{WORD}@127.0.0.1:1/0?timeout=2",
        f"postgresql://user:{WORD}@127.0.0.1:1/db?connect_timeout=2",
        f"nats://user:{WORD}@127.0.0.1:1/bucket?timeout=2",
        f"s3://bucket/p?endpoint=http://127.0.0.1:1&region=x&access_key_id={WORD}&secret_access_key={WORD}",
    ],
)
def test_a_server_that_cannot_be_reached(url: str) -> None:
    """Neither doctor, nor a plan, nor the whole chain of an error shows what the client library was given."""
    found = kvsync.doctor(url)
    assert found.wrong
    assert WORD not in f"{found}"
    for call in (kvsync.status, kvsync.log, lambda url: kvsync.plan({}, url), lambda url: kvsync.sync({}, url)):
        with pytest.raises(KvsyncError) as caught:
            call(url)
        assert WORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "az://container?nosuch=1",
        "file:///folder?nosuch=1",
        "gs://bucket?nosuch=1",
        "lmdb:///folder?nosuch=1",
        "nats://host/bucket?nosuch=1",
        "redis://host/0?nosuch=1",
        "s3://bucket?nosuch=1",
        "sqlite:///a.db?nosuch=1",
    ],
)
def test_every_parameter_is_known_to_be_a_secret_or_not(url: str) -> None:
    """A new parameter is masked until somebody says that it may be shown."""
    with pytest.raises(UsageError, match="unknown parameter 'nosuch'") as caught:
        open_storage(url)
    known = re.findall(r"\w+", caught.value.message.partition("knows ")[2])
    assert set(known) - {"none"} <= _SHOWN | _SECRETS | {_TABLE_KEY}
