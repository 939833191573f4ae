//! Python sequences as borrowed slices, each kept alive by a tuple of its own.

use kvsync_core::{DIGEST_BYTES, KeyList, Row};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySequence, PyString, PyTuple};

use crate::errors::{not_encodable, usage};

/// A sequence's items, kept alive whatever happens to the sequence while the interpreter is released.
pub(crate) fn items<'py>(sequence: &Bound<'py, PySequence>) -> PyResult<Bound<'py, PyTuple>> {
    sequence.to_tuple()
}

/// Borrowed keys.
pub(crate) fn keys<'a>(items: &'a Bound<'_, PyTuple>) -> PyResult<Vec<&'a str>> {
    items.iter_borrowed().map(key).collect()
}

/// Keys in one piece of memory.
pub(crate) fn key_list(items: &Bound<'_, PyTuple>) -> PyResult<KeyList> {
    let mut keys = KeyList::with_capacity(items.len());
    for item in items.iter_borrowed() {
        keys.push(key(item)?);
    }
    Ok(keys)
}

/// A borrowed key.
pub(crate) fn key<'a>(item: Borrowed<'a, '_, PyAny>) -> PyResult<&'a str> {
    let Ok(text) = item.cast::<PyString>() else {
        let message = format!("a key is a {}, not a str", type_name(item));
        return Err(usage(item.py(), &message, None));
    };
    <&str>::extract(item).map_err(|_| not_encodable(&text))
}

/// A borrowed row.
pub(crate) fn row<'a>(item: Borrowed<'a, '_, PyAny>) -> PyResult<Row<'a>> {
    type Parts<'a> = (Key<'a>, u64, u64, u8, u64, Digest<'a>, u64);
    let (key, origin, stamp, flags, size, digest, expires) = Parts::extract(item)?;
    Ok(Row {
        key: key.0.as_bytes(),
        origin,
        stamp,
        flags,
        size,
        expires,
        digest: digest.0,
    })
}

/// A key as part of a row.
struct Key<'a>(&'a str);

impl<'a> FromPyObject<'a, '_> for Key<'a> {
    type Error = PyErr;

    fn extract(item: Borrowed<'a, '_, PyAny>) -> PyResult<Self> {
        key(item).map(Self)
    }
}

/// A digest as part of a row.
struct Digest<'a>(&'a [u8; DIGEST_BYTES]);

impl<'a> FromPyObject<'a, '_> for Digest<'a> {
    type Error = PyErr;

    fn extract(item: Borrowed<'a, '_, PyAny>) -> PyResult<Self> {
        digest(item).map(Self)
    }
}

/// Borrowed bytes of exactly that type, or None; an item of another type is reported with its key.
pub(crate) fn values<'a>(items: &'a Bound<'_, PyTuple>, keys: &KeyList) -> PyResult<Vec<Option<&'a [u8]>>> {
    let value = |(index, item): (usize, Borrowed<'a, '_, PyAny>)| match exact_bytes(item) {
        None if !item.is_none() => Err(not_bytes(item, keys.text(index).as_deref())),
        value => Ok(value),
    };
    items.iter_borrowed().enumerate().map(value).collect()
}

/// Borrowed bytes, none of them None.
pub(crate) fn all_bytes<'a>(items: &'a Bound<'_, PyTuple>) -> PyResult<Vec<&'a [u8]>> {
    items.iter_borrowed().map(bytes).collect()
}

/// Borrowed bytes; None for anything that is not exactly bytes.
pub(crate) fn any_bytes<'a>(items: &'a Bound<'_, PyTuple>) -> Vec<Option<&'a [u8]>> {
    items.iter_borrowed().map(exact_bytes).collect()
}

/// Borrowed digests, or None.
pub(crate) fn digests<'a>(items: &'a Bound<'_, PyTuple>) -> PyResult<Vec<Option<&'a [u8; DIGEST_BYTES]>>> {
    let some = |item: Borrowed<'a, '_, PyAny>| {
        if item.is_none() {
            Ok(None)
        } else {
            digest(item).map(Some)
        }
    };
    items.iter_borrowed().map(some).collect()
}

/// When values expire, in milliseconds since 1970, where a sequence says so.
pub(crate) fn expires(sequence: Option<&Bound<'_, PySequence>>) -> PyResult<Option<Vec<u64>>> {
    let time = |item: Borrowed<'_, '_, PyAny>| {
        let wrong = |_| usage(item.py(), "an expiry is not an int of 64 bits, 0 or more", None);
        u64::extract(item).map_err(wrong)
    };
    let times = |sequence| items(sequence)?.iter_borrowed().map(time).collect();
    sequence.map(times).transpose()
}

fn digest<'a>(item: Borrowed<'a, '_, PyAny>) -> PyResult<&'a [u8; DIGEST_BYTES]> {
    let digest = bytes(item)?.try_into();
    digest.map_err(|_| usage(item.py(), "a digest has to be 32 bytes long", None))
}

fn bytes<'a>(item: Borrowed<'a, '_, PyAny>) -> PyResult<&'a [u8]> {
    exact_bytes(item).ok_or_else(|| not_bytes(item, None))
}

/// The bytes of an object of exactly that type.
pub(crate) fn exact_bytes<'a>(item: Borrowed<'a, '_, PyAny>) -> Option<&'a [u8]> {
    item.cast_exact::<PyBytes>().ok()?;
    <&[u8]>::extract(item).ok()
}

fn not_bytes(item: Borrowed<'_, '_, PyAny>, key: Option<&str>) -> PyErr {
    let kind = type_name(item);
    let message = match key {
        Some(key) => format!("value of key {key:?} is a {kind}, not bytes"),
        None => format!("expected bytes, not a {kind}"),
    };
    usage(item.py(), &message, key)
}

fn type_name(item: Borrowed<'_, '_, PyAny>) -> String {
    let name = item.get_type().fully_qualified_name();
    name.map_or_else(|_| "object".into(), |name| name.to_string_lossy().into_owned())
}
