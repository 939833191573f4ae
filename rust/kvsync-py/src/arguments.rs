//! Python sequences as borrowed slices, each kept alive by a tuple of its own.

use kvsync_core::Listing;
use kvsync_core::row::DIGEST;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySequence, PyString, PyTuple};

use crate::errors::{no_text, usage};

/// A sequence's items, kept alive whatever happens to the sequence while the interpreter runs on.
pub(crate) fn items<'py>(sequence: &Bound<'py, PySequence>) -> PyResult<Bound<'py, PyTuple>> {
    sequence.to_tuple()
}

/// Borrowed keys.
pub(crate) fn keys<'a>(items: &'a Bound<'_, PyTuple>) -> PyResult<Vec<&'a str>> {
    items.iter_borrowed().map(key).collect()
}

/// Keys in one piece of memory.
pub(crate) fn listing(items: &Bound<'_, PyTuple>) -> PyResult<Listing> {
    let mut listing = Listing::with_capacity(items.len());
    for item in items.iter_borrowed() {
        listing.push(key(item)?);
    }
    Ok(listing)
}

/// A borrowed key.
pub(crate) fn key<'a>(item: Borrowed<'a, '_, PyAny>) -> PyResult<&'a str> {
    let Ok(text) = item.cast::<PyString>() else {
        let message = format!("a key is a {}, not a str", type_name(item));
        return Err(usage(item.py(), &message, None));
    };
    <&str>::extract(item).map_err(|_| no_text(&text))
}

/// A key as part of a row.
pub(crate) struct Key<'a>(pub(crate) &'a str);

impl<'a> FromPyObject<'a, '_> for Key<'a> {
    type Error = PyErr;

    fn extract(item: Borrowed<'a, '_, PyAny>) -> PyResult<Self> {
        key(item).map(Self)
    }
}

/// A digest as part of a row.
pub(crate) struct Digest<'a>(pub(crate) &'a [u8; DIGEST]);

impl<'a> FromPyObject<'a, '_> for Digest<'a> {
    type Error = PyErr;

    fn extract(item: Borrowed<'a, '_, PyAny>) -> PyResult<Self> {
        let bytes = exact(item).ok_or_else(|| not_bytes(item, None))?;
        digest(item.py(), bytes).map(Self)
    }
}

/// Borrowed bytes, of exactly that type; everything else is named by its key.
pub(crate) fn values<'a>(items: &'a Bound<'_, PyTuple>, keys: &Listing) -> PyResult<Vec<Option<&'a [u8]>>> {
    let value = |(index, item): (usize, Borrowed<'a, '_, PyAny>)| match exact(item) {
        None if !item.is_none() => Err(not_bytes(item, keys.text(index).as_deref())),
        value => Ok(value),
    };
    items.iter_borrowed().enumerate().map(value).collect()
}

/// Borrowed bytes, none of them None.
pub(crate) fn all_bytes<'a>(items: &'a Bound<'_, PyTuple>) -> PyResult<Vec<&'a [u8]>> {
    let value = |item| exact(item).ok_or_else(|| not_bytes(item, None));
    items.iter_borrowed().map(value).collect()
}

/// Borrowed bytes; None for anything that is not exactly bytes.
pub(crate) fn any_bytes<'a>(items: &'a Bound<'_, PyTuple>) -> Vec<Option<&'a [u8]>> {
    items.iter_borrowed().map(exact).collect()
}

/// When values expire, in milliseconds.
pub(crate) fn expiries(sequence: &Bound<'_, PySequence>) -> PyResult<Vec<u64>> {
    let expiry = |item: Borrowed<'_, '_, PyAny>| {
        let wrong = |_| usage(item.py(), "an expiry is no int of 64 bits, 0 or more", None);
        u64::extract(item).map_err(wrong)
    };
    items(sequence)?.iter_borrowed().map(expiry).collect()
}

/// Borrowed digests.
pub(crate) fn digests<'a>(items: &'a Bound<'_, PyTuple>) -> PyResult<Vec<&'a [u8; DIGEST]>> {
    let py = items.py();
    let digest = |item| digest(py, item);
    all_bytes(items)?.into_iter().map(digest).collect()
}

/// A borrowed digest.
fn digest<'a>(py: Python<'_>, bytes: &'a [u8]) -> PyResult<&'a [u8; DIGEST]> {
    let digest = bytes.try_into();
    digest.map_err(|_| usage(py, "a digest is 32 bytes long", None))
}

/// The bytes of an object of exactly that type.
fn exact<'a>(item: Borrowed<'a, '_, PyAny>) -> Option<&'a [u8]> {
    item.cast_exact::<PyBytes>().ok()?;
    <&[u8]>::extract(item).ok()
}

fn not_bytes(item: Borrowed<'_, '_, PyAny>, key: Option<&str>) -> PyErr {
    let kind = type_name(item);
    let message = match key {
        Some(key) => format!("value of key {key:?} is a {kind}, not bytes"),
        None => format!("a {kind} where bytes belong"),
    };
    usage(item.py(), &message, key)
}

fn type_name(item: Borrowed<'_, '_, PyAny>) -> String {
    let name = item.get_type().fully_qualified_name();
    name.map_or_else(|_| "object".into(), |name| name.to_string_lossy().into_owned())
}
