"""The storages, and `open_storage`, which opens anything that can name one."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TypeAlias, TypeGuard

from kvsync.errors import UsageError
from kvsync.native import digest_values
from kvsync.storages.contract import (
    Capabilities,
    ObjectMismatch,
    OpaqueTokens,
    Page,
    Storage,
    Support,
    SupportsCopy,
    SupportsDryProbe,
    SupportsExpiry,
    SupportsFiles,
    SupportsHost,
    SupportsIdentity,
    SupportsNesting,
    SupportsRanges,
    SupportsSizes,
    SupportsSkipped,
    SupportsStreaming,
    SupportsTokens,
    SupportsTransaction,
    Tier,
    TornRead,
)
from kvsync.storages.hints import Hints, NoHintsError, SupportsHints
from kvsync.storages.journal import Journal, SupportsJournal
from kvsync.storages.limits import SupportsLimits
from kvsync.storages.metadata import SupportsMetadata
from kvsync.storages.place import Place
from kvsync.storages.registry import ADAPTERS, factory, schemes
from kvsync.storages.url import redact, scheme_of

__all__ = [
    "Capabilities",
    "Hints",
    "Journal",
    "NoHintsError",
    "ObjectMismatch",
    "OpaqueTokens",
    "Page",
    "Place",
    "Storage",
    "Support",
    "SupportsCopy",
    "SupportsDryProbe",
    "SupportsExpiry",
    "SupportsFiles",
    "SupportsHints",
    "SupportsHost",
    "SupportsIdentity",
    "SupportsJournal",
    "SupportsLimits",
    "SupportsMetadata",
    "SupportsNesting",
    "SupportsRanges",
    "SupportsSizes",
    "SupportsSkipped",
    "SupportsStreaming",
    "SupportsTokens",
    "SupportsTransaction",
    "Target",
    "Tier",
    "TornRead",
    "digest_values",
    "open_storage",
    "redact",
    "schemes",
]

Target: TypeAlias = "str | os.PathLike[str] | MutableMapping[str, bytes] | Storage"


def open_storage(target: Target, *, create: bool = True) -> tuple[Storage, bool]:
    """Return the storage that `target` names, and whether it was opened here, so that the caller closes it.

    `target` is a URL, a path of a folder, a `MutableMapping`, or a `Storage`, which is returned as it is.
    Opening creates nothing: a folder or database that does not exist reads as empty, and is created by the
    first write. With `create` False, a folder must exist.

    >>> storage, owned = open_storage("memory:")
    >>> storage.read(["user/1"]), owned
    ([None], True)

    Raises:
        UsageError: `target` cannot name a storage, or its scheme is unknown.
        StorageError: it could not be opened.
    """
    if _is_storage(target):
        return target, False
    if isinstance(target, MutableMapping):
        from kvsync.storages.mapping import MappingStorage  # noqa: PLC0415 - adapters are imported when used

        return MappingStorage(target), True
    if isinstance(target, Place):
        storage = _opened(str(target), create=create)
        storage.name = target.name
        return storage, True
    return _opened(target, create=create), True


def _opened(target: object, *, create: bool) -> Storage:
    """Open what a path or URL names."""
    text, is_path = _text_of(target)
    scheme = None if is_path else scheme_of(text)
    if scheme is None and not is_path:
        _refuse_slips(text)
    if scheme is not None:
        return factory(scheme, text)(text)
    from kvsync.storages.folder import FolderStorage  # noqa: PLC0415 - adapters are imported when used

    return FolderStorage(text, create=create)


def _is_storage(target: object) -> TypeGuard[Storage]:
    """Whether `target` declares itself a storage; its attributes' names alone say nothing."""
    return isinstance(getattr(target, "capabilities", None), Capabilities) and not isinstance(target, type)


def _refuse_slips(text: str) -> None:
    """Refuse a path that is more likely a mistyped URL, which may contain a password.

    Look for our own schemes only: those of others would take reading every installed package.

    Raises:
        UsageError: it is.
    """
    start = text.lstrip()
    likely = any(start.lower().startswith((f"{scheme}:", f"{scheme}//")) for scheme in ADAPTERS)
    if likely or (start != text and scheme_of(start)):
        message = "this begins like a URL, but is not one (scheme://...); write ./name for a folder of that name"
        raise UsageError(message)


def _text_of(target: object) -> tuple[str, bool]:
    if isinstance(target, str | os.PathLike):
        text = os.fspath(target)
        if isinstance(text, str) and text:
            if "\0" in text:
                message = "a storage's path or URL cannot hold a NUL character"
                raise UsageError(message)
            return text, not isinstance(target, str)
    shown = "an empty text" if target == "" else type(target).__name__
    message = f"a storage is a URL, the path of a folder, a MutableMapping or a Storage, not {shown}"
    raise UsageError(message)
