"""Requests about a whole bucket of S3, which obstore does not have, and only signs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from kvsync.storages.extras import client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.storages.bucket.client import Bucket

__all__ = ["signed_url"]

SIGNED_FOR = timedelta(minutes=5)


def signed_url(bucket: Bucket, query: Mapping[str, str]) -> str:
    """Return the signed URL of a GET request about the bucket itself.

    obstore signs the URLs of objects only. So its endpoint is set to the URL of the request with one more, meaningless
    parameter, to which obstore appends the object's name.
    """
    config = dict(bucket.store.config)
    name = config.pop("bucket")
    endpoint = config.pop("endpoint", None) or f"https://s3.{config.get('region', 'us-east-1')}.amazonaws.com"
    if str(config.pop("virtual_hosted_style_request", "")).lower() != "true":
        endpoint = f"{endpoint.rstrip('/')}/{name}"
    signer = type(bucket.store)(
        name,
        config={**config, "endpoint": f"{endpoint}?{urlencode(query, quote_via=quote)}&x-id="},
        virtual_hosted_style_request=True,
        client_options=bucket.store.client_options,
        credential_provider=bucket.store.credential_provider,
    )
    return str(client("obstore", "s3").sign(signer, "GET", "kvsync", SIGNED_FOR))
