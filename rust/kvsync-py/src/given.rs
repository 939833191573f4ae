//! `Given`: changes as their caller gave them, beside the segment that logs them.

use kvsync_core::build;
use kvsync_core::merge::Seeker;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySequence, PyTuple};

use crate::arguments;
use crate::errors::raise;
use crate::segment::Segment;
use crate::threads::workers;

/// The caller's own key and value objects, so that what was just given need not be read back.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Given {
    segment: Py<Segment>,
    keys: Py<PyTuple>,
    values: Py<PyTuple>,
    /// Position in `keys` and `values` of each change of the segment.
    order: Vec<u32>,
    /// They were all puts, given in the order of the segment.
    plain: bool,
}

#[pymethods]
impl Given {
    #[new]
    #[pyo3(signature = (keys, values, origin, stamp, expires = None))]
    fn new(
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        values: &Bound<'_, PySequence>,
        origin: u64,
        stamp: u64,
        expires: Option<&Bound<'_, PySequence>>,
    ) -> PyResult<Self> {
        let (keys, values) = (arguments::items(keys)?, arguments::items(values)?);
        let listing = arguments::listing(&keys)?;
        let borrowed = arguments::values(&values, &listing)?;
        let expires = expires.map(arguments::expiries).transpose()?;
        let expires = expires.as_deref();
        let workers = workers();
        let build =
            || build::from_values_in_order(&listing, &borrowed, expires, origin, stamp, 0, workers);
        let (segment, order) = py.detach(build).map_err(|error| raise(py, &error, None))?;
        let plain = segment.view().tombstones() == 0
            && order.len() == keys.len()
            && (0..).zip(&order).all(|(place, given)| place == *given);
        Ok(Self {
            plain,
            segment: Py::new(py, Segment::owned(segment))?,
            keys: keys.unbind(),
            values: values.unbind(),
            order,
        })
    }

    #[getter]
    fn segment(&self, py: Python<'_>) -> Py<Segment> {
        self.segment.clone_ref(py)
    }

    /// The keys and values of the puts in a range of `changes`, or None where one of them was not given here.
    fn puts<'py>(
        &self,
        py: Python<'py>,
        changes: &Bound<'py, Segment>,
        start: usize,
        stop: usize,
    ) -> PyResult<Option<(Bound<'py, PyList>, Bound<'py, PyList>)>> {
        if self.plain && changes.is(&self.segment) && start <= stop {
            let part = |all: &Py<PyTuple>| all.bind(py).get_slice(start, stop).to_list();
            return Ok(Some((part(&self.keys), part(&self.values))));
        }
        let (keys, values) = (PyList::empty(py), PyList::empty(py));
        let mut seeker = Seeker::new(self.segment.get().view());
        for change in changes.get().view().rows(start, stop) {
            if change.deletes() {
                continue;
            }
            let Some((index, own)) = seeker.locate(change.key) else {
                return Ok(None);
            };
            if (own.origin, own.stamp) != (change.origin, change.stamp) {
                return Ok(None);
            }
            let place = self.order[index] as usize;
            keys.append(self.keys.bind(py).get_item(place)?)?;
            values.append(self.values.bind(py).get_item(place)?)?;
        }
        Ok(Some((keys, values)))
    }
}
