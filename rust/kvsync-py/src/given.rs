//! `Given`: changes as their caller gave them, in the order of the segment that logs them.

use kvsync_core::{BatchLimits, KeyList, NewValues, Provenance, Staged};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PySequence, PyTuple};

use crate::arguments;
use crate::errors::raise;
use crate::results::{items_at, items_in};
use crate::segment::Segment;
use crate::threads::workers;

/// Changes with the caller's own key and value objects, so that they need not be read back.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Given {
    staged: Staged<KeyList>,
    keys: Py<PyTuple>,
    values: Py<PyTuple>,
    segment: PyOnceLock<Py<Segment>>,
}

/// Keys, values and expiries of puts; keys of deletes.
type Part<'py> = (
    Bound<'py, PyList>,
    Bound<'py, PyList>,
    Option<Vec<u64>>,
    Bound<'py, PyList>,
);

#[pymethods]
impl Given {
    #[new]
    #[pyo3(signature = (keys, values, origin, stamp, expires = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        values: &Bound<'_, PySequence>,
        origin: u64,
        stamp: u64,
        expires: Option<&Bound<'_, PySequence>>,
    ) -> PyResult<Self> {
        let (key_items, value_items) = (arguments::items(keys)?, arguments::items(values)?);
        let keys = arguments::key_list(&key_items)?;
        let values = &arguments::values(&value_items, &keys)?;
        let expires = arguments::expires(expires)?;
        let new = NewValues { keys, values, expires };
        let provenance = Provenance {
            origin,
            first_stamp: stamp,
            flags: 0,
        };
        let staged = py.detach(|| Staged::new(new, provenance)).map_err(raise)?;
        Ok(Self {
            staged,
            keys: key_items.unbind(),
            values: value_items.unbind(),
            segment: PyOnceLock::new(),
        })
    }

    fn __len__(&self) -> usize {
        self.staged.len()
    }

    #[getter]
    fn segment(&self, py: Python<'_>) -> PyResult<Py<Segment>> {
        let segment = self.segment.get_or_try_init(py, || {
            let values = arguments::any_bytes(self.values.bind(py));
            let segment = py.detach(|| self.staged.segment(&values, workers()));
            Py::new(py, Segment::from(segment.map_err(raise)?))
        });
        Ok(segment?.clone_ref(py))
    }

    fn batches(&self, py: Python<'_>, count_max: usize, bytes_max: u64) -> PyResult<Vec<(usize, usize)>> {
        let values = self.values.bind(py);
        let size = |place| {
            let value = values.get_borrowed_item(place).ok();
            value
                .and_then(arguments::exact_bytes)
                .map_or(0, |value| value.len() as u64)
        };
        let batches = self.staged.batches(BatchLimits { count_max, bytes_max }, size);
        batches.map_err(raise)
    }

    fn part<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Part<'py>> {
        let part = self.staged.part(start..stop);
        let (keys, values) = (self.keys.bind(py), self.values.bind(py));
        let puts = (items_at(keys, &part.puts)?, items_at(values, &part.puts)?);
        Ok((puts.0, puts.1, part.expires, items_in(keys, &part.deletes)?))
    }

    fn puts<'py>(
        &self,
        py: Python<'py>,
        changes: &Bound<'py, Segment>,
        start: usize,
        stop: usize,
    ) -> PyResult<Option<(Bound<'py, PyList>, Bound<'py, PyList>)>> {
        let own = self.segment(py)?;
        let (own, changes) = (own.get().view(), changes.get().view());
        let Some(puts) = self.staged.find_puts(own, changes, start..stop) else {
            return Ok(None);
        };
        let (keys, values) = (self.keys.bind(py), self.values.bind(py));
        Ok(Some((items_at(keys, &puts)?, items_at(values, &puts)?)))
    }
}
