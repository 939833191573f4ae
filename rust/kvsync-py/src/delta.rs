//! `delta`: what each side lacks of the other.

use kvsync_core::delta_by;
use pyo3::prelude::*;

use crate::cover::Cover;
use crate::errors::raise;
use crate::segment::{PyRow, Segment, to_tuple, views};
use crate::threads::workers;

/// What each side lacks of the other.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Delta {
    #[pyo3(get)]
    to_a: Py<Segment>,
    #[pyo3(get)]
    to_b: Py<Segment>,
    #[pyo3(get)]
    log_a: Py<Segment>,
    #[pyo3(get)]
    log_b: Py<Segment>,
    conflict_a: Segment,
    conflict_b: Segment,
}

#[pymethods]
impl Delta {
    #[getter]
    fn conflicts<'py>(&self, py: Python<'py>) -> PyResult<Vec<(PyRow<'py>, PyRow<'py>)>> {
        let (a, b) = (self.conflict_a.view(), self.conflict_b.view());
        let pair = |(a, b)| Ok((to_tuple(py, &a)?, to_tuple(py, &b)?));
        a.iter().zip(b.iter()).map(pair).collect()
    }
}

/// Compare two stretches of segments by what the other side holds.
#[pyfunction]
#[pyo3(signature = (a, b, cover_a, cover_b, ordered = false))]
#[expect(
    clippy::needless_pass_by_value,
    reason = "arguments are extracted by value"
)]
pub(crate) fn delta(
    py: Python<'_>,
    a: Vec<Py<Segment>>,
    b: Vec<Py<Segment>>,
    cover_a: &Cover,
    cover_b: &Cover,
    ordered: bool,
) -> PyResult<Delta> {
    let (a, b) = (views(&a), views(&b));
    let covers = [&cover_a.0, &cover_b.0];
    let found = py.detach(|| delta_by(workers(), [&a, &b], covers, ordered));
    let found = found.map_err(|error| raise(py, &error, None))?;
    let made = |segment| Py::new(py, Segment::owned(segment));
    Ok(Delta {
        to_a: made(found.to_a)?,
        to_b: made(found.to_b)?,
        log_a: made(found.log_a)?,
        log_b: made(found.log_b)?,
        conflict_a: Segment::owned(found.conflict_a),
        conflict_b: Segment::owned(found.conflict_b),
    })
}
