"""Keep secrets of the command line out of everything that is printed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from kvsync.storages.registry import ADAPTERS
from kvsync.storages.url import redact, redact_url

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["shown_token", "without_secrets"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://", re.ASCII)
_SLIP = re.compile(rf"(\s*(?:{'|'.join(ADAPTERS)})(?::|//))", re.ASCII | re.IGNORECASE)
_LOGIN = re.compile(r":.*@", re.DOTALL)
_HARMLESS = re.compile(r"memory:[\w.\-]*\Z", re.IGNORECASE)


def without_secrets(text: str, tokens: Sequence[str]) -> str:
    """Hide secrets: first those of the URLs on the command line, exactly, then whatever looks like one."""
    for token in tokens:
        shown = shown_token(token)
        if shown != token:
            for form in (token, repr(token)[1:-1], json.dumps(token)[1:-1]):
                text = text.replace(form, shown)
    return redact(text)


def shown_token(token: str) -> str:
    """Return a token of the command line without secrets; it holds one URL at most, which may have a slip.

    >>> shown_token("--changes=redis://me:a b@h"), shown_token("redis:me:hunter2@h"), shown_token("me:hunter2@h")
    ('--changes=redis://me:***@h', 'redis:***', 'me:***@h')
    """
    if url := _URL.search(token):
        return token[: url.start()] + redact_url(token[url.start() :])
    slip = _SLIP.match(token)
    if slip is not None and not _HARMLESS.match(token):
        return f"{slip[1]}***"
    return _LOGIN.sub(":***@", token)
