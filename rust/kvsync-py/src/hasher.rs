//! `Hasher`: the digest of a value that comes in parts.

use kvsync_core::digest;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// BLAKE3 of a value, part by part.
#[pyclass(module = "kvsync._core")]
#[derive(Default)]
pub(crate) struct Hasher(digest::Hasher);

#[pymethods]
impl Hasher {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn update(&mut self, py: Python<'_>, part: &[u8]) {
        py.detach(|| self.0.update(part));
    }

    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.digest())
    }
}
