//! `Page`: a page of a listing.

use kvsync_core::{DIGEST_BYTES, is_reserved};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PySequence, PyString, PyTuple};

use crate::arguments;
use crate::errors::{raise, usage};
use crate::results;
use crate::threads::workers;

type Digested<'a> = (&'a [u8; DIGEST_BYTES], u64);

/// A page of a listing: keys, each with its version token, or with what was read of its value.
#[pyclass(module = "kvsync._core")]
#[derive(Default)]
pub(crate) struct Page(pub(crate) kvsync_core::Page);

#[pymethods]
impl Page {
    #[new]
    #[pyo3(signature = (keys = None, values = None, expires = None))]
    fn new(
        py: Python<'_>,
        keys: Option<&Bound<'_, PySequence>>,
        values: Option<&Bound<'_, PySequence>>,
        expires: Option<&Bound<'_, PySequence>>,
    ) -> PyResult<Self> {
        let mut page = Self::default();
        if let (Some(keys), Some(values)) = (keys, values) {
            page.add(py, keys, values, expires)?;
        }
        Ok(page)
    }

    #[staticmethod]
    fn of_tokens(keys: &Bound<'_, PySequence>, tokens: &Bound<'_, PySequence>) -> PyResult<Self> {
        let (keys, tokens) = (arguments::items(keys)?, arguments::items(tokens)?);
        let (keys, tokens) = (arguments::keys(&keys)?, arguments::all_bytes(&tokens)?);
        kvsync_core::Page::of_tokens(keys, tokens).map(Self).map_err(raise)
    }

    #[pyo3(signature = (keys, values, expires = None))]
    fn add(
        &mut self,
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        values: &Bound<'_, PySequence>,
        expires: Option<&Bound<'_, PySequence>>,
    ) -> PyResult<()> {
        let (keys, values) = (arguments::items(keys)?, arguments::items(values)?);
        let keys = arguments::keys(&keys)?;
        let values = arguments::any_bytes(&values);
        let expires = arguments::expires(expires)?.unwrap_or_default();
        let page = &mut self.0;
        py.detach(|| page.add_values(keys, &values, &expires, workers()))
            .map_err(raise)
    }

    #[pyo3(signature = (keys, digests, expires = None))]
    fn add_digests(
        &mut self,
        keys: &Bound<'_, PySequence>,
        digests: &Bound<'_, PySequence>,
        expires: Option<&Bound<'_, PySequence>>,
    ) -> PyResult<()> {
        let (keys, digests) = (arguments::items(keys)?, arguments::items(digests)?);
        let pairs: PyResult<Vec<_>> = digests.iter().map(pair).collect();
        let pairs = pairs?;
        let digests: PyResult<Vec<_>> = pairs
            .iter()
            .map(|pair| pair.as_ref().map(digested).transpose())
            .collect();
        let expires = arguments::expires(expires)?.unwrap_or_default();
        let added = self.0.add_digests(arguments::keys(&keys)?, &digests?, &expires);
        added.map_err(raise)
    }

    fn add_rows(&mut self, py: Python<'_>, rows: &Bound<'_, PyList>) -> PyResult<bool> {
        // Held here, whatever happens to the list while the interpreter is released.
        let held = rows.to_tuple();
        let rows: Result<Vec<_>, _> = held.iter_borrowed().map(Borrowed::cast::<PyTuple>).collect();
        let Ok(rows) = rows else {
            return Ok(false);
        };
        let (mut keys, mut values) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in &rows {
            let Some((key, value)) = plain(row) else {
                return Ok(false);
            };
            keys.push(key);
            values.push(Some(value));
        }
        let page = &mut self.0;
        py.detach(|| page.add_values(keys, &values, &[], workers()))
            .map_err(raise)?;
        Ok(true)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __bool__(&self) -> bool {
        !self.0.is_empty()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        (self.keys(py)?, self.tokens(py)).into_pyobject(py)?.try_iter()
    }

    fn __repr__(&self) -> String {
        format!("<Page of {} keys>", self.0.len())
    }

    #[getter]
    fn value_bytes(&self) -> u64 {
        self.0.value_bytes()
    }

    #[getter]
    fn last<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        let last = self.0.len().checked_sub(1)?;
        Some(PyString::new(py, self.0.keys().str(last)))
    }

    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyString>>> {
        results::keys(py, self.0.keys().iter())
    }

    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0.tokens().map(|token| PyBytes::new(py, &token)).collect()
    }
}

/// Key and value of a row, where there is nothing to look at in either of them.
fn plain<'a>(row: &'a Bound<'_, PyTuple>) -> Option<(&'a str, &'a [u8])> {
    let (key, value) = (row.get_borrowed_item(0).ok()?, row.get_borrowed_item(1).ok()?);
    let key = match arguments::exact_bytes(key) {
        Some(bytes) => str::from_utf8(bytes).ok()?,
        None => <&str>::extract(key).ok()?,
    };
    (!is_reserved(key)).then_some((key, arguments::exact_bytes(value)?))
}

fn pair(item: Bound<'_, PyAny>) -> PyResult<Option<Bound<'_, PyTuple>>> {
    if item.is_none() {
        Ok(None)
    } else {
        Ok(Some(item.cast_into()?))
    }
}

/// A digest with the size of its value.
fn digested<'a>(pair: &'a Bound<'_, PyTuple>) -> PyResult<Digested<'a>> {
    let wrong = || {
        usage(
            pair.py(),
            "expected a digest of 32 bytes with the size of its value",
            None,
        )
    };
    let (Ok(digest), Ok(size)) = (pair.get_borrowed_item(0), pair.get_borrowed_item(1)) else {
        return Err(wrong());
    };
    let digest = arguments::exact_bytes(digest).and_then(|bytes| bytes.try_into().ok());
    Ok((digest.ok_or_else(wrong)?, size.extract()?))
}
