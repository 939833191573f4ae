"""What a storage declares about itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Capabilities", "OpaqueTokens", "Support", "Tier"]


class Tier(StrEnum):
    """What a storage guarantees, strongest first."""

    TRANSACTIONAL = "T1"
    CONDITIONAL = "T2"
    FOLDER = "T3"
    ADVISORY = "T4"


class Support(StrEnum):
    """The optional protocols; a storage lists the ones it has in `Capabilities.supports`."""

    TRANSACTION = "transaction"
    EXPIRY = "expiry"
    TOKENS = "tokens"
    SIZES = "sizes"
    STREAMING = "streaming"
    COPY = "copy"
    METADATA = "metadata"
    IDENTITY = "identity"
    NESTING = "nesting"
    FILES = "files"
    HOST = "host"
    SKIPPED = "skipped"
    DRY_PROBE = "dry_probe"
    LIMITS = "limits"
    SPLITS = "splits"
    HINTS = "hints"
    RANGES = "ranges"
    JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class OpaqueTokens:
    """Version tokens of the storage's own: `scan` and `write` return them without reading a value.

    Attributes:
        racy_ms: a token proves what was read only if the value was last modified longer than this before the scan:
            the tick of the storage's clock plus its difference from ours. 0 where two values of a key never have the
            same token.
        is_young: tells that from a token itself, and the time at which the scan began, in wall-clock milliseconds; a
            storage that has it needs no `racy_ms`.
        md5_of: returns the MD5 that the storage claims a value to have, from its token; None where it claims none. It
            counts only in runs with `trust="etag"`, and in storages that report sizes.
    """

    racy_ms: int = 20
    is_young: Callable[[bytes, int], bool] | None = None
    md5_of: Callable[[bytes], bytes | None] | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a storage declares about itself.

    Attributes:
        tier: the guarantee it gives.
        distance: where its data is. "memory": in this process; nothing waits. "mapped": on this machine, usually in
            its memory. "disk": reads wait for input and output. "network": index objects are compressed, too.
        tokens: what tells a scan that a value changed: the BLAKE3 of the value, or `OpaqueTokens`.
        conditions: whether conditional writes hold. "certain": yes. "claimed": a probe proves it before the first run,
            since some servers ignore conditions silently. "advisory": no, and the user insisted.
        lease_stays: the lease object stays in place when the lease is released: because to remove an object on
            condition is not atomic here, or because removing and recreating the lease in every run costs too much.
        supports: the optional protocols that the storage implements.
    """

    tier: Tier
    distance: Literal["memory", "mapped", "disk", "network"] = "disk"
    tokens: Literal["blake3"] | OpaqueTokens = "blake3"
    conditions: Literal["certain", "claimed", "advisory"] = "certain"
    lease_stays: bool = False
    supports: frozenset[Support] = frozenset()
