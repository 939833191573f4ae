"""`kvsync storages`: list the kinds of storage."""

from collections.abc import Iterator

from kvsync.cli.exitcodes import DONE
from kvsync.cli.output import Output
from kvsync.cli.sync import PLAIN
from kvsync.storages.registry import ADAPTERS, Adapter, adapters

__all__ = ["storages"]


def storages(*, output: Output = PLAIN) -> int:
    """List all URL schemes, with what to install for each; includes installed third-party adapters."""
    found = adapters()
    output.result({"storages": [_fields(scheme, adapter) for scheme, adapter in found.items()]})
    output.say_all(_lines(found))
    return DONE


def _fields(scheme: str, adapter: Adapter) -> dict[str, object]:
    return {
        "scheme": scheme,
        "form": adapter.form,
        "installed": adapter.installed,
        "extra": adapter.extra,
        "third_party": scheme not in ADAPTERS,
    }


def _lines(found: dict[str, Adapter]) -> Iterator[str]:
    names, forms = (max(map(len, column)) + 2 for column in (found, [adapter.form for adapter in found.values()]))
    for scheme, adapter in found.items():
        yield f"{scheme:{names}}{adapter.form:{forms}}{_state(scheme, adapter)}"


def _state(scheme: str, adapter: Adapter) -> str:
    if scheme not in ADAPTERS:
        return f"from {adapter.factory}"
    return "ready" if adapter.installed else f"pip install 'kvsync[{adapter.extra}]'"
