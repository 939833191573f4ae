//! `Inventory`: what the last scan of a storage saw.

use kvsync_core::inventory::{Entry, NONCE};
use kvsync_core::{Kind, scan};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySequence, PyString};

use crate::arguments;
use crate::errors::{raise, usage};
use crate::segment::Body;

/// What the last scan of a storage saw.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Inventory(kvsync_core::Inventory<Body>);

type OptionalBytes<'py> = Option<Bound<'py, PyBytes>>;

#[pymethods]
impl Inventory {
    #[staticmethod]
    fn decode(py: Python<'_>, data: PyBackedBytes) -> PyResult<Self> {
        let inventory = py.detach(|| {
            let (body, start) = Body::open(Kind::Inventory, data)?;
            kvsync_core::Inventory::parse(body, start)
        });
        let inventory = inventory.map(Self);
        inventory.map_err(|error| raise(py, &error, Some("inventory")))
    }

    #[staticmethod]
    fn build(
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        tokens: &Bound<'_, PySequence>,
        digests: &Bound<'_, PySequence>,
    ) -> PyResult<Self> {
        let (keys, tokens) = (arguments::items(keys)?, arguments::items(tokens)?);
        let digests = arguments::items(digests)?;
        let (keys, tokens) = (arguments::listing(&keys)?, arguments::all_bytes(&tokens)?);
        let digests = arguments::digests(&digests)?;
        let built = py.detach(|| scan::build(&keys, &tokens, &digests));
        let built = built.map(|built| Self(built.map_bytes(Body::Owned)));
        built.map_err(|error| raise(py, &error, None))
    }

    #[pyo3(signature = (nonce, compress = false))]
    fn encode<'py>(&self, py: Python<'py>, nonce: &[u8], compress: bool) -> PyResult<Bound<'py, PyBytes>> {
        let nonce: &[u8; NONCE] = nonce
            .try_into()
            .map_err(|_| usage(py, "a nonce is 16 bytes long", None))?;
        let object = py.detach(|| self.0.encode(nonce, compress));
        let object = object.map_err(|error| raise(py, &error, None))?;
        Ok(PyBytes::new(py, &object))
    }

    #[getter]
    fn nonce<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.nonce())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("<Inventory of {} keys>", self.0.len())
    }

    fn compare<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PySequence>,
        tokens: &Bound<'py, PySequence>,
    ) -> PyResult<(Vec<usize>, Vec<Bound<'py, PyString>>)> {
        let (keys, tokens) = (arguments::items(keys)?, arguments::items(tokens)?);
        let (keys, tokens) = (arguments::listing(&keys)?, arguments::all_bytes(&tokens)?);
        let difference = py.detach(|| self.0.compare(&keys, &tokens));
        let difference = difference.map_err(|error| raise(py, &error, None))?;
        let gone = difference.gone.into_iter();
        let gone = gone.map(|key| PyString::from_bytes(py, key));
        Ok((difference.changed, gone.collect::<PyResult<_>>()?))
    }

    fn tokens<'py>(&self, py: Python<'py>, keys: &Bound<'py, PySequence>) -> PyResult<Vec<OptionalBytes<'py>>> {
        self.each(keys, |entry| PyBytes::new(py, entry.token))
    }

    fn digests<'py>(&self, py: Python<'py>, keys: &Bound<'py, PySequence>) -> PyResult<Vec<OptionalBytes<'py>>> {
        self.each(keys, |entry| PyBytes::new(py, entry.digest))
    }

    fn updated(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        tokens: &Bound<'_, PySequence>,
        digests: &Bound<'_, PySequence>,
        removed: &Bound<'_, PySequence>,
    ) -> PyResult<Self> {
        let (keys, tokens) = (arguments::items(keys)?, arguments::items(tokens)?);
        let (digests, removed) = (arguments::items(digests)?, arguments::items(removed)?);
        let (keys, tokens) = (arguments::listing(&keys)?, arguments::all_bytes(&tokens)?);
        let (digests, removed) = (arguments::digests(&digests)?, arguments::keys(&removed)?);
        let updated = py.detach(|| self.0.updated(&keys, &tokens, &digests, &removed));
        let updated = updated.map(|updated| Self(updated.map_bytes(Body::Owned)));
        updated.map_err(|error| raise(py, &error, None))
    }
}

impl Inventory {
    fn each<'py>(
        &self,
        keys: &Bound<'py, PySequence>,
        get: impl Fn(Entry<'_>) -> Bound<'py, PyBytes>,
    ) -> PyResult<Vec<OptionalBytes<'py>>> {
        let items = arguments::items(keys)?;
        let keys = arguments::keys(&items)?;
        let found = items.py().detach(|| self.0.find(&keys));
        Ok(found.into_iter().map(|entry| entry.map(&get)).collect())
    }
}
