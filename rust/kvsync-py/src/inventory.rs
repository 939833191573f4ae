//! `Inventory`: what the last scan of a storage saw.

use kvsync_core::{Entry, Kind, NONCE_BYTES, Scanned};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySequence, PyString};

use crate::arguments;
use crate::errors::{raise, raise_in, usage};
use crate::results;
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
        inventory.map(Self).map_err(|error| raise_in(py, "inventory", &error))
    }

    #[staticmethod]
    fn build(
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        tokens: &Bound<'_, PySequence>,
        digests: &Bound<'_, PySequence>,
    ) -> PyResult<Self> {
        with_scanned([keys, tokens, digests], |scanned| {
            built(py.detach(|| kvsync_core::Inventory::build(scanned)))
        })
    }

    #[pyo3(signature = (nonce, compress = false))]
    fn encode<'py>(&self, py: Python<'py>, nonce: &[u8], compress: bool) -> PyResult<Bound<'py, PyBytes>> {
        let nonce: Result<&[u8; NONCE_BYTES], _> = nonce.try_into();
        let nonce = nonce.map_err(|_| usage(py, "a nonce has to be 16 bytes long", None))?;
        let object = py.detach(|| self.0.encode(nonce, compress)).map_err(raise)?;
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
        let (keys, tokens) = (arguments::key_list(&keys)?, arguments::all_bytes(&tokens)?);
        let difference = py.detach(|| self.0.compare(&keys, &tokens)).map_err(raise)?;
        Ok((difference.changed, results::keys(py, difference.removed)?))
    }

    fn tokens<'py>(&self, keys: &Bound<'py, PySequence>) -> PyResult<Vec<OptionalBytes<'py>>> {
        self.column(keys, |entry| entry.token)
    }

    fn digests<'py>(&self, keys: &Bound<'py, PySequence>) -> PyResult<Vec<OptionalBytes<'py>>> {
        self.column(keys, |entry| entry.digest)
    }

    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn updated(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        tokens: &Bound<'_, PySequence>,
        digests: &Bound<'_, PySequence>,
        removed: &Bound<'_, PySequence>,
    ) -> PyResult<Self> {
        let removed = arguments::items(removed)?;
        let removed = arguments::keys(&removed)?;
        with_scanned([keys, tokens, digests], |scanned| {
            built(py.detach(|| self.0.updated(scanned, &removed)))
        })
    }
}

impl Inventory {
    /// A column of the entries of some keys.
    fn column<'py>(
        &self,
        keys: &Bound<'py, PySequence>,
        get: impl for<'a> Fn(&Entry<'a>) -> &'a [u8],
    ) -> PyResult<Vec<OptionalBytes<'py>>> {
        let items = arguments::items(keys)?;
        let keys = arguments::keys(&items)?;
        let py = items.py();
        let found = py.detach(|| self.0.find(&keys)).into_iter();
        Ok(found
            .map(|entry| entry.map(|entry| PyBytes::new(py, get(&entry))))
            .collect())
    }
}

/// Call `work` with borrowed keys, tokens and digests.
fn with_scanned<T>(
    [keys, tokens, digests]: [&Bound<'_, PySequence>; 3],
    work: impl FnOnce(Scanned<'_>) -> PyResult<T>,
) -> PyResult<T> {
    let (keys, tokens) = (arguments::items(keys)?, arguments::items(tokens)?);
    let digests = arguments::items(digests)?;
    work(Scanned {
        keys: &arguments::key_list(&keys)?,
        tokens: &arguments::all_bytes(&tokens)?,
        digests: &arguments::digests(&digests)?,
    })
}

fn built(inventory: kvsync_core::Result<kvsync_core::Inventory<Vec<u8>>>) -> PyResult<Inventory> {
    let inventory = inventory.map(|inventory| inventory.map_bytes(Body::Owned));
    inventory.map(Inventory).map_err(raise)
}
