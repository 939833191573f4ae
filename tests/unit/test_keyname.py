"""Keys and paths: a bijection, but for files that were there under names that are not portable."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.storages.folder.keyname import NAME_BYTES_MAX, Naming, is_reserved, quote

NAMING = Naming()

PIECES = [
    *(
        "a",
        "b",
        ".",
        "..",
        "/",
        "//",
        "\\",
        " ",
        "+",
        "%",
        "%%",
        "2",
        "E",
        "5",
        "é",
        "e\u0301",
        "\U0001f600",
        ":",
    ),
    *(
        "\0",
        "\n",
        "\x7f",
        "%2E",
        "%25",
        "%2e",
        "%value",
        "%+",
        "CON",
        "aux.",
        "%43ON",
        ".kvsync",
        "x" * 199,
        "é" * 99,
    ),
]

keys = st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=30))


@given(keys)
def test_encode_and_decode_are_inverse(key: str) -> None:
    path = NAMING.encode(key)
    assert NAMING.decode(path) == key
    assert NAMING.is_path(path)
    assert not NAMING.is_suffixed(path)


@given(st.lists(keys, min_size=1, max_size=4), st.sampled_from([NAMING, Naming(folds=True), Naming(normalises=True)]))
def test_plain_names_make_paths_that_are_their_own_keys(names: list[str], naming: Naming) -> None:
    if naming.are_plain(names):
        for path in (*names, "/".join(names)):
            assert naming.decode(path) == path == naming.encode(path)
            assert naming.is_path(path)
            assert not any(map(is_reserved, path.split("/")))


@pytest.mark.parametrize("name", ["a.b", ".git", "CONTENTS", "x" * NAME_BYTES_MAX, "a b", "com.example", "src/aux1.c"])
def test_ordinary_names_are_plain(name: str) -> None:
    assert NAMING.are_plain(["directory", name])


@given(keys, keys)
def test_two_keys_never_share_a_place(first: str, second: str) -> None:
    if first != second:
        assert not set(NAMING.paths(first)) & set(NAMING.paths(second))


@given(keys)
def test_every_path_is_a_place_of_its_key(path: str) -> None:
    if NAMING.is_path(path):
        assert path in NAMING.paths(NAMING.decode(path))


@given(keys)
def test_every_place_of_a_key_decodes_to_it(key: str) -> None:
    for place in NAMING.paths(key):
        if NAMING.is_path(place):
            assert NAMING.decode(place) == key


@given(keys)
def test_a_new_file_has_a_portable_name(key: str) -> None:
    for name in NAMING.encode(key).split("/"):
        assert name
        assert len(name.encode()) <= NAME_BYTES_MAX
        assert name[-1] not in ". "
        assert not any(ord(letter) < 32 or letter in "\x7f\\" for letter in name)
        assert name.split(".")[0].rstrip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
    assert not is_reserved(NAMING.encode(key).split("/")[0])


@given(keys)
def test_where_names_are_normalised_a_path_keeps_its_form(key: str) -> None:
    naming = Naming(normalises=True)
    path = naming.encode(key)
    assert unicodedata.normalize("NFD", path) == path
    assert naming.decode(path) == key


@pytest.mark.parametrize(
    "key",
    [
        *(
            "user/1",
            "lib/python3.11/os.py",
            "MixedCase.TXT",
            "a b",
            ".hidden",
            "user:1",
            "straße/Ω",
            "a" * 255,
        ),
        *("100%", "100%.txt", "a%20b", "%41", "%2e", "%%", "%zz", "%+", "x%+/y", "%+x"),
    ],
)
def test_ordinary_keys_are_their_own_paths(key: str) -> None:
    assert NAMING.encode(key) == key
    assert NAMING.decode(key) == key


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("", "%"),
        ("%", "%25"),
        ("%25", "%2525"),
        ("..", ".%2E"),
        (".%2E", ".%252E"),
        ("../../etc/passwd", ".%2E/.%2E/etc/passwd"),
        ("/a//b/", "%/a/%/b/%"),
        ("a\0b\\c\n", "a%00b%5Cc%0A"),
        ("CON", "%43ON"),
        ("docs/aux.c", "docs/%61ux.c"),
        ("draft.", "draft%2E"),
        (".KVsync/manifest", "%2EKVsync/manifest"),
        ("a%value", "a%25value"),
        ("a%value/b", "a%25value/b"),
        ("x" * 300, "x" * 200 + "%+/%+" + "x" * 100),
    ],
)
def test_what_is_quoted(key: str, path: str) -> None:
    assert NAMING.encode(key) == path
    assert NAMING.decode(path) == key


@pytest.mark.parametrize(
    ("path", "key"),
    [("a%value", "a"), ("a%value%value", "a%value%value"), ("aux.c", "aux.c"), ("aux.c%value", "aux.c")],
)
def test_other_places_of_a_key(path: str, key: str) -> None:
    assert NAMING.decode(path) == key
    assert path in NAMING.paths(key)


@pytest.mark.parametrize("name", [".kvsync", ".KVSYNC", ".kv\u200dsync", ".kvsync. .", "\u2024kvsync", ".\u212avsync"])
def test_names_that_fold_to_ours(name: str) -> None:
    assert is_reserved(name)
    assert not is_reserved(name + "x")


def test_many_levels_of_quoting_end_soon() -> None:
    key = "%" + "25" * 1500
    assert NAMING.decode(NAMING.encode(key)) == key
    key = ".%" + "25" * 1000 + "2E"
    assert NAMING.decode(NAMING.encode(key)) == key
    assert NAMING.encode(key) == quote(key)
