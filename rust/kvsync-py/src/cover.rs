//! `Cover`: what a replica holds.

use std::collections::BTreeMap;

use kvsync_core::Span;
use pyo3::prelude::*;

use crate::errors::raise;

/// A version vector with exceptions.
#[pyclass(frozen, eq, hash, module = "kvsync._core")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Cover(pub(crate) kvsync_core::Cover);

#[pymethods]
impl Cover {
    #[new]
    #[pyo3(
        signature = (vector = None, exceptions = Vec::new()),
        text_signature = "(vector=None, exceptions=())"
    )]
    fn new(vector: Option<BTreeMap<u64, u64>>, exceptions: Vec<(u64, u64, u64)>) -> PyResult<Self> {
        let span = |(origin, first, last)| Span { origin, first, last };
        let exceptions = exceptions.into_iter().map(span).collect();
        let cover = kvsync_core::Cover::new(vector.unwrap_or_default(), exceptions);
        cover.map(Self).map_err(raise)
    }

    #[getter]
    fn vector(&self) -> BTreeMap<u64, u64> {
        self.0.vector().clone()
    }

    #[getter]
    fn exceptions(&self) -> Vec<(u64, u64, u64)> {
        let spans = self.0.exceptions().iter();
        spans.map(|span| (span.origin, span.first, span.last)).collect()
    }

    fn covers(&self, origin: u64, stamp: u64) -> bool {
        self.0.covers(origin, stamp)
    }

    fn includes(&self, other: &Self) -> bool {
        self.0.includes(&other.0)
    }

    fn __repr__(&self) -> String {
        format!("Cover({:?}, {:?})", self.0.vector(), self.exceptions())
    }
}
