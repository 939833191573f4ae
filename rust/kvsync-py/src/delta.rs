//! `delta`: what each side misses of the other.

use kvsync_core::{Side, Sides, SingleSegment, single_segment};
use pyo3::prelude::*;

use crate::cover::Cover;
use crate::errors::raise;
use crate::results::{self, PyRow};
use crate::segment::{Segment, views};
use crate::threads::workers;

/// What each side misses of the other.
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
        let pair = |(a, b)| Ok((results::row(py, &a)?, results::row(py, &b)?));
        a.iter().zip(b.iter()).map(pair).collect()
    }
}

impl Delta {
    /// The delta where one side misses all of the other's only segment.
    fn of_single(py: Python<'_>, to_a: Py<Segment>, to_b: Py<Segment>) -> PyResult<Self> {
        Ok(Self {
            to_a,
            to_b,
            log_a: empty(py)?,
            log_b: empty(py)?,
            conflict_a: Segment::empty()?,
            conflict_b: Segment::empty()?,
        })
    }

    pub(crate) fn of_core(py: Python<'_>, delta: kvsync_core::Delta) -> PyResult<Self> {
        let made = |segment| Py::new(py, Segment::from(segment));
        Ok(Self {
            to_a: made(delta.to_a)?,
            to_b: made(delta.to_b)?,
            log_a: made(delta.log_a)?,
            log_b: made(delta.log_b)?,
            conflict_a: delta.conflict_a.into(),
            conflict_b: delta.conflict_b.into(),
        })
    }
}

fn empty(py: Python<'_>) -> PyResult<Py<Segment>> {
    Py::new(py, Segment::empty()?)
}

/// Compare two sides by what the other side holds.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
pub(crate) fn delta(
    py: Python<'_>,
    a: Vec<Py<Segment>>,
    b: Vec<Py<Segment>>,
    cover_a: &Cover,
    cover_b: &Cover,
) -> PyResult<Delta> {
    let (views_a, views_b) = (views(&a), views(&b));
    let side = |segments, cover| Side { segments, cover };
    let sides = Sides {
        a: side(&views_a, &cover_a.0),
        b: side(&views_b, &cover_b.0),
    };
    match py.detach(|| single_segment(sides)).map_err(raise)? {
        Some(SingleSegment::ToA(place)) => Delta::of_single(py, b[place].clone_ref(py), empty(py)?),
        Some(SingleSegment::ToB(place)) => Delta::of_single(py, empty(py)?, a[place].clone_ref(py)),
        None => Delta::of_core(py, py.detach(|| kvsync_core::delta(sides, workers())).map_err(raise)?),
    }
}
