"""No Rust modules use each other in a circle, none is long, and only the binding knows Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "rust"
CORE, BINDING = (ROOT / name / "src" for name in ("kvsync-core", "kvsync-py"))
LINES_MAX = 400

# One token of Rust: a comment, string, character or lifetime, which hold no path; or a word, `::`, or one mark.
TOKEN = re.compile(
    r"//[^\n]*|/\*.*?\*/"
    r'|b?r(?P<hashes>#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"'
    r"|b?'(?:\\(?:u\{\w+\}|x\w\w|.)|[^'\\])'|'\w+"
    r"|(?P<kept>\w+|::|[^\s\w])",
    re.DOTALL,
)

Module = tuple[str, ...]


def tokens(source: str) -> list[str]:
    """Return the tokens of a source, without comments, strings, characters and lifetimes."""
    return [kept for found in TOKEN.finditer(source) if (kept := found["kept"])]


def end_of_group(words: list[str], start: int) -> int:
    """Return the index after the bracket that closes the one at `start`."""
    depth = 0
    for index in range(start, len(words)):
        depth += (words[index] in "{([") - (words[index] in "})]")
        if depth == 0:
            return index + 1
    raise ValueError(f"{words[start]} is never closed")


def without_tests(words: list[str]) -> list[str]:
    """Leave out each item that is marked with `#[cfg(test)]`."""
    kept: list[str] = []
    index, mark = 0, tokens("#[cfg(test)]")
    while index < len(words):
        if words[index : index + len(mark)] != mark:
            kept.append(words[index])
            index += 1
            continue
        while words[index := index + 1] not in {"{", ";"} or words[index - 1] == "[":
            pass
        index = end_of_group(words, index) if words[index] == "{" else index + 1
    return kept


def paths(words: list[str], start: int) -> tuple[list[Module], int]:
    """Return the paths that begin at `start`, those in braces written out, and the index after them."""
    first, index = words[start], start + 1
    if first == "{":
        found: list[Module] = []
        while words[index] != "}":
            if words[index] == ",":
                index += 1
                continue
            inner, index = paths(words, index)
            found += inner
        return found, index + 1
    if words[index : index + 1] == ["as"]:
        index += 2
    if words[index : index + 1] != ["::"] or words[index + 1] == "<":
        return [(first,)], index
    rest, index = paths(words, index + 1)
    return [(first, *path) for path in rest], index


def module_of(path: Path, source: Path) -> Module:
    """Return the path of a module within its crate; the crate's root is empty."""
    parts = path.relative_to(source).with_suffix("").parts
    return parts[:-1] if parts[-1] in {"mod", "lib"} else parts


def resolve(path: Module, user: Module, modules: set[Module]) -> Module | None:
    """Return the module that a path leads to, from where it is written; None for one outside the crate."""
    place = user
    if path[0] == "crate":
        place, path = (), path[1:]
    elif path[0] == "self":
        path = path[1:]
    elif path[0] == "super":
        while path[:1] == ("super",):
            place, path = place[:-1], path[1:]
    elif (*user, path[0]) not in modules:
        return None
    for word in path:
        if (*place, word) not in modules:
            break
        place = (*place, word)
    return place


def uses(source: str, user: Module, modules: set[Module]) -> set[Module]:
    """Return the modules of a crate that a module's source uses, by `use` or by a path within its code."""
    words = without_tests(tokens(source))
    found: set[Module] = set()
    index = 0
    while index < len(words):
        begins = words[index] in {"use", "crate", "self", "super"} or (*user, words[index]) in modules
        after_path = index > 0 and words[index - 1] in {"::", "mod", "."}
        if not begins or after_path or (words[index] != "use" and words[index + 1 : index + 2] != ["::"]):
            index += 1
            continue
        written, index = paths(words, index + (words[index] == "use"))
        found |= {place for path in written if (place := resolve(path, user, modules)) is not None}
    return found - {user}


def circle(graph: dict[Module, set[Module]]) -> list[str]:
    """Return the names of modules that use each other in a circle, the first at both ends; nothing if there is none."""
    done: set[Module] = set()

    def visit(module: Module, trail: list[Module]) -> list[Module]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module not in done:
            for used in sorted(graph[module]):
                if found := visit(used, [*trail, module]):
                    return found
            done.add(module)
        return []

    for module in sorted(graph):
        if found := visit(module, []):
            return ["::".join(place) or "crate" for place in found]
    return []


def graph_of(sources: dict[Module, str]) -> dict[Module, set[Module]]:
    return {module: uses(source, module, set(sources)) for module, source in sources.items()}


def sources_of(crate: Path) -> dict[Module, str]:
    return {module_of(path, crate): path.read_text() for path in sorted(crate.rglob("*.rs"))}


@pytest.mark.parametrize("crate", [CORE, BINDING], ids=["core", "binding"])
def test_no_modules_use_each_other_in_a_circle(crate: Path) -> None:
    found = circle(graph_of(sources_of(crate)))
    assert not found, " -> ".join(found)


def test_the_check_sees_what_the_core_uses() -> None:
    graph = graph_of(sources_of(CORE))
    assert {("merge",), ("view",), ("missing_rows",), ("workers",)} <= graph["delta",]
    assert graph["inventory", "piece"] >= {("inventory", "build"), ("inventory", "places"), ("pack",)}
    assert ("inventory", "places") in graph["inventory", "build"]
    assert ("column",) in graph["strings",], "a macro is imported like a function"
    assert not graph["row",]
    assert len(graph) > 20


PLANTED = {
    "use": ({(): "mod a; mod b;", ("a",): "use crate::b::B;", ("b",): "use crate::a;"}, "a -> b -> a"),
    "three": (
        {
            (): "",
            ("a",): "use crate::{b, c::C};",
            ("b",): "",
            ("c",): "use super::d::*;",
            ("d",): "pub use crate::a::A;",
        },
        "a -> c -> d -> a",
    ),
    "inline": ({(): "", ("a",): "fn f() { crate::b::g::<u8>() }", ("b",): "fn g(_: crate::a::T) {}"}, "a -> b -> a"),
    "braces": (
        {(): "", ("a",): "use crate::{b::{self, B as Other}};", ("b",): "use {crate::a::A, std::fmt};"},
        "a -> b -> a",
    ),
    "inner": (
        {(): "", ("a",): "mod b; use self::b::B;", ("a", "b"): "use super::Table;"},
        "a -> a::b -> a",
    ),
    "inner by name": ({(): "", ("a",): "mod b; pub use b::B;", ("a", "b"): "use crate::a::T;"}, "a -> a::b -> a"),
    "facade": ({(): "mod a; pub use a::A;", ("a",): "fn f() -> crate::Error {}"}, "crate -> a -> crate"),
    "facade by use": ({(): "mod a; pub use a::A;", ("a",): "use crate::{Error, A};"}, "crate -> a -> crate"),
    "around a test": (
        {(): "", ("a",): "#[cfg(test)] mod tests { use crate::c; } use crate::b;", ("b",): "use crate::a;"},
        "a -> b -> a",
    ),
}


@pytest.mark.parametrize(("sources", "expected"), PLANTED.values(), ids=PLANTED)
def test_a_planted_circle_is_found_and_named(sources: dict[Module, str], expected: str) -> None:
    assert " -> ".join(circle(graph_of(sources))) == expected


INNOCENT = {
    "a comment": "// use crate::b;\n/* crate::b */ /// [`crate::b::B`]\n",
    "a string": 'const A: &str = "use crate::b; \\" crate::b"; const B: &str = r#"crate::b""#; const C: char = \'"\';',
    "a test": "#[cfg(test)]\nmod tests { use crate::b; fn f() { if true {} } }",
    "a test's import": "#[cfg(test)] use crate::b;",
    "another crate": "use other::b::B; use std::{b, fmt};",
    "a lifetime": "fn f<'a>(a: &'a str) -> &'a str { a }",
}


@pytest.mark.parametrize("source", INNOCENT.values(), ids=INNOCENT)
def test_other_text_is_not_taken_for_a_use(source: str) -> None:
    modules = {(): "", ("a",): source, ("b",): "use crate::a;"}
    assert circle(graph_of(modules)) == []


@pytest.mark.parametrize(
    "path", sorted(p for crate in (CORE, BINDING) for p in crate.rglob("*.rs")), ids=lambda p: p.stem
)
def test_no_module_is_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def test_the_core_knows_no_python() -> None:
    files = [path for path in CORE.parent.rglob("*") if path.suffix in {".rs", ".toml"}]
    assert len(files) > 20
    assert not [path for path in files if "pyo3" in path.read_text()]


def test_unsafe_code_is_forbidden_everywhere() -> None:
    manifest = (ROOT.parent / "Cargo.toml").read_text()
    assert 'unsafe_code = "forbid"' in manifest
    for crate in (CORE, BINDING):
        assert "[lints]\nworkspace = true" in (crate.parent / "Cargo.toml").read_text()
