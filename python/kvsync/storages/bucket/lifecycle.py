"""What a bucket of S3 does to objects by itself: the rules of its lifecycle."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from kvsync.storages.bucket.signing import signed_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.bucket.client import Bucket

__all__ = ["lifecycle_limits", "limits_of"]

TIMEOUT_SECONDS = 30
NO_RULES = 404
_UNKNOWN = (
    "whether lifecycle rules of the bucket delete objects cannot be found out ({}): each would look like a delete"
)
_DELETES = "a lifecycle rule of the bucket{} deletes objects by itself, and each looks like a delete, which spreads"
_ARCHIVES = "a lifecycle rule of the bucket{} moves objects to another storage class: an archived one cannot be read"


def lifecycle_limits(bucket: Bucket) -> Iterator[str]:
    """Yield what rules of the bucket do to objects that may be ours, one sentence each.

    Raises:
        StorageError: the request cannot be signed.
    """
    url = bucket.sent(lambda: signed_url(bucket, {"lifecycle": ""}))
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - obstore made the URL
            root = ET.fromstring(answer.read())  # noqa: S314 - expat limits what entities expand to
    except urllib.error.HTTPError as error:
        if error.code != NO_RULES:
            yield _UNKNOWN.format(f"the server answers {error.code}")
    except (OSError, ET.ParseError) as error:
        yield _UNKNOWN.format(bucket.plain(error))
    else:
        yield from limits_of(root, bucket.prefix)


def limits_of(root: ET.Element, prefix: str) -> Iterator[str]:
    """Yield what the rules in a document do to objects below a prefix."""
    for rule in root.iterfind("{*}Rule"):
        start = _text(rule, ".//{*}Prefix")
        overlaps = start.startswith(prefix) or prefix.startswith(start)
        if _text(rule, "{*}Status") != "Enabled" or not overlaps:
            continue
        name = _text(rule, "{*}ID")
        shown = f" ({name!r:.100})" if name else ""
        if rule.find("{*}Expiration") is not None and rule.find("{*}Expiration/{*}ExpiredObjectDeleteMarker") is None:
            yield _DELETES.format(shown)
        if rule.find("{*}Transition") is not None:
            yield _ARCHIVES.format(shown)


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
