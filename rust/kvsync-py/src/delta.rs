//! `delta`: what each side lacks of the other.

use kvsync_core::{Error, delta_by, sole};
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

impl Delta {
    /// The outcome where one side lacks all that there is.
    fn one_way(py: Python<'_>, to_a: Py<Segment>, to_b: Py<Segment>) -> PyResult<Self> {
        Ok(Self {
            to_a,
            to_b,
            log_a: empty(py)?,
            log_b: empty(py)?,
            conflict_a: Segment::empty(py)?,
            conflict_b: Segment::empty(py)?,
        })
    }
}

fn empty(py: Python<'_>) -> PyResult<Py<Segment>> {
    Py::new(py, Segment::empty(py)?)
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
#[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
pub(crate) fn delta(
    py: Python<'_>,
    a: Vec<Py<Segment>>,
    b: Vec<Py<Segment>>,
    cover_a: &Cover,
    cover_b: &Cover,
    ordered: bool,
) -> PyResult<Delta> {
    let (in_a, in_b) = (views(&a), views(&b));
    let lone = py.detach(|| Ok((sole(&in_a, &in_b, &cover_b.0)?, sole(&in_b, &in_a, &cover_a.0)?)));
    match lone.map_err(|error: Error| raise(py, &error, None))? {
        (Some(place), _) => return Delta::one_way(py, empty(py)?, a[place].clone_ref(py)),
        (_, Some(place)) => return Delta::one_way(py, b[place].clone_ref(py), empty(py)?),
        (None, None) => {}
    }
    let covers = [&cover_a.0, &cover_b.0];
    let found = py.detach(|| delta_by(workers(), [&in_a, &in_b], covers, ordered));
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
