//! The functions that belong to no class.

use kvsync_core::{Kind, digest, envelope};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySequence, PyString};

use crate::arguments;
use crate::errors::raise;
use crate::threads::workers;

/// Put a packed body into an envelope.
#[pyfunction]
#[pyo3(signature = (kind, body, compress = false))]
pub(crate) fn seal<'py>(py: Python<'py>, kind: u8, body: &[u8], compress: bool) -> PyResult<Bound<'py, PyBytes>> {
    let kind = Kind::try_from(kind).map_err(raise)?;
    let object = py.detach(|| envelope::seal(kind, body, compress));
    Ok(PyBytes::new(py, &object))
}

/// Check an envelope and return the packed body.
#[pyfunction]
pub(crate) fn unseal<'py>(py: Python<'py>, kind: u8, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let kind = Kind::try_from(kind).map_err(raise)?;
    let body = py.detach(|| envelope::open(kind, data)).map_err(raise)?;
    Ok(PyBytes::new(py, &body))
}

/// Return the checksum field of a sealed object.
#[pyfunction]
pub(crate) fn checksum(data: &[u8]) -> PyResult<u64> {
    envelope::checksum(data).map_err(raise)
}

/// Return the least stamp at a time that is greater than a stamp seen before.
#[pyfunction]
pub(crate) fn stamp_after(now_ms: u64, seen: u64) -> PyResult<u64> {
    kvsync_core::stamp_after(now_ms, seen).map_err(raise)
}

/// Return BLAKE3 of each value.
#[pyfunction]
pub(crate) fn digest_values<'py>(
    py: Python<'py>,
    values: &Bound<'py, PySequence>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let items = arguments::items(values)?;
    let values: Vec<_> = arguments::all_bytes(&items)?.into_iter().map(Some).collect();
    let digests = py.detach(|| digest::of_values(&values, workers()));
    Ok(digests.iter().map(|digest| PyBytes::new(py, digest)).collect())
}

/// Refuse a key that has no UTF-8 encoding or is reserved for the index.
#[pyfunction]
pub(crate) fn check_key(key: &Bound<'_, PyString>) -> PyResult<()> {
    let text = arguments::key(key.as_any().as_borrowed())?;
    kvsync_core::check_key(text).map_err(raise)
}
