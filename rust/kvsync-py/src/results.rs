//! Keys, rows and digests as Python objects.

use kvsync_core::{Positions, Row};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// A row as Python sees it.
pub(crate) type PyRow<'py> = (Bound<'py, PyString>, u64, u64, u8, u64, Bound<'py, PyBytes>, u64);

pub(crate) fn row<'py>(py: Python<'py>, row: &Row<'_>) -> PyResult<PyRow<'py>> {
    Ok((
        PyString::from_bytes(py, row.key)?,
        row.origin,
        row.stamp,
        row.flags,
        row.size,
        PyBytes::new(py, row.digest),
        row.expires,
    ))
}

pub(crate) fn keys<'py, 'a>(
    py: Python<'py>,
    keys: impl IntoIterator<Item = &'a [u8]>,
) -> PyResult<Vec<Bound<'py, PyString>>> {
    keys.into_iter().map(|key| PyString::from_bytes(py, key)).collect()
}

/// The items at some positions of a tuple.
pub(crate) fn items_at<'py>(items: &Bound<'py, PyTuple>, positions: &Positions) -> PyResult<Bound<'py, PyList>> {
    match positions {
        Positions::Range(range) => Ok(items.get_slice(range.start as usize, range.end as usize).to_list()),
        Positions::List(list) => items_in(items, list),
    }
}

pub(crate) fn items_in<'py>(items: &Bound<'py, PyTuple>, positions: &[u32]) -> PyResult<Bound<'py, PyList>> {
    let found = PyList::empty(items.py());
    for position in positions {
        found.append(items.get_borrowed_item(*position as usize)?)?;
    }
    Ok(found)
}
