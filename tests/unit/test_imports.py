"""Imports point downward, and through the doors that are meant for them; seen in the source, without running it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = Path(__file__).parents[2] / "python" / "kvsync"

# From the top down. A module may import from its own layer or one below; what is listed first for a name counts.
LAYERS: list[tuple[str, ...]] = [
    ("kvsync.__main__",),
    ("kvsync.cli",),
    ("kvsync.testing",),
    ("kvsync",),
    ("kvsync.many",),
    ("kvsync.api", "kvsync.checks", "kvsync.absence", "kvsync.losers", "kvsync.tracking", "kvsync.watching"),
    ("kvsync.store", "kvsync.inspection", "kvsync.audit", "kvsync.diagnosis"),
    ("kvsync.opening",),
    ("kvsync.planning",),
    ("kvsync.run.steps", "kvsync.run.holder", "kvsync.run.keeping", "kvsync.run.forgetting", "kvsync.run.accepting"),
    ("kvsync.run.push", "kvsync.run.intend"),
    ("kvsync.run.release", "kvsync.run.transfer", "kvsync.run.delta", "kvsync.run.floor", "kvsync.run.forecast"),
    ("kvsync.run.budgets", "kvsync.run.mirror"),
    ("kvsync.run.clashes", "kvsync.run.conflicts", "kvsync.run.names", "kvsync.run.pull"),
    ("kvsync.run.commit", "kvsync.run.find", "kvsync.run.guard", "kvsync.run.unkept"),
    ("kvsync.run.lock",),
    ("kvsync.run.side",),
    ("kvsync.run",),
    ("kvsync.config",),
    ("kvsync.options",),
    ("kvsync.scan",),
    ("kvsync.replica.recovery", "kvsync.replica.waiting", "kvsync.replica.unleased"),
    ("kvsync.replica.log",),
    ("kvsync.replica.intents", "kvsync.replica.lives", "kvsync.replica.rewriting"),
    ("kvsync.replica.collection",),
    ("kvsync.replica.segments",),
    ("kvsync.replica.session", "kvsync.replica.base"),
    ("kvsync.policy", "kvsync.result", "kvsync.probe"),
    ("kvsync.moved", "kvsync.fields"),
    ("kvsync.lease",),
    ("kvsync.digesting", "kvsync.filters"),
    ("kvsync.index.inventory", "kvsync.index.manifest", "kvsync.index.compaction", "kvsync.index.lost"),
    ("kvsync.pending",),
    ("kvsync.index.histories",),
    ("kvsync.index.bounds",),
    ("kvsync.index.objects", "kvsync.expiry"),
    ("kvsync.replica.knowledge",),
    ("kvsync.replica.history",),
    ("kvsync.replica.points", "kvsync.replica.peers"),
    ("kvsync.replica",),
    ("kvsync.storages",),
    ("kvsync.index",),
    ("kvsync.types",),
    ("kvsync.native",),
    ("kvsync._core",),
    ("kvsync.environment",),
    ("kvsync.process", "kvsync.threads"),
    ("kvsync.errors",),
]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from at_run_time(node)


def imports_of(path: Path, *, walk: Callable[[ast.AST], Iterator[ast.AST]] = at_run_time) -> Iterator[str]:
    """Yield the modules that a module imports at run time, `from a import b` as `a.b` where that is a module."""
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in inner)


def layer_of(name: str) -> int:
    """Return the layer of a module, by its name or the nearest package that has one."""
    while name:
        for number, names in enumerate(LAYERS):
            if name in names:
                return number
        name = name.rpartition(".")[0]
    raise AssertionError


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downward(name: str) -> None:
    own = layer_of(name)
    for imported in imports_of(MODULES[name]):
        if imported.partition(".")[0] == "kvsync":
            assert layer_of(imported) >= own, f"{name} imports {imported}, which is above it"


def test_every_module_has_a_layer_of_its_own() -> None:
    """A new module at the top of the package is put into a layer on purpose."""
    listed = {name for names in LAYERS for name in names}
    for name in MODULES:
        packages = {name.rsplit(".", up)[0] for up in range(name.count(".") + 1)}
        assert name in listed or packages & (listed - {"kvsync"}), f"{name} has no layer"


@pytest.mark.parametrize("walk", [at_run_time, ast.walk], ids=["at run time", "for types too"])
def test_no_import_goes_round(walk: Callable[[ast.AST], Iterator[ast.AST]]) -> None:
    """Not even for types: modules that name each other's types cannot be read one after the other."""
    graph = {
        name: {i for i in imports_of(path, walk=walk) if i in MODULES and i != name} for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for imported in graph[name]:
                visit(imported, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_one_module_talks_to_the_extension() -> None:
    users = [name for name, path in MODULES.items() if any(i.startswith("kvsync._core") for i in imports_of(path))]
    assert users == ["kvsync.native"]


@pytest.mark.parametrize("name", MODULES)
def test_nothing_outside_the_package_is_needed(name: str) -> None:
    """Neither benches nor tests; and the testing module is only for those who test."""
    for imported in imports_of(MODULES[name]):
        assert imported.partition(".")[0] not in {"benches", "reference", "tests", "conftest"}
        if not name.startswith("kvsync.testing"):
            assert not imported.startswith("kvsync.testing")


def test_time_and_chance_come_from_outside() -> None:
    """Only the environment, defaults of arguments, and storages may name a clock or a source of randomness."""
    allowed = {"kvsync.environment", "kvsync.absence", "kvsync.api", "kvsync.checks", "kvsync.losers"}
    allowed |= {"kvsync.watching.api", "kvsync.many"}
    for name, path in MODULES.items():
        if name in allowed or name.startswith(("kvsync.storages", "kvsync.cli", "kvsync.testing")):
            continue
        assert not {"time", "random", "secrets", "uuid", "datetime"} & set(imports_of(path)), name
