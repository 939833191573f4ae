//! `Filter`: which of some keys a run leaves out.

use kvsync_core as core;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySequence};

use crate::arguments::{items, keys};

/// Patterns that say which keys to include and which to leave out.
#[pyclass(module = "kvsync._core", frozen)]
pub(crate) struct Filter(pub(crate) core::Filter);

#[pymethods]
impl Filter {
    #[new]
    fn new(include: &Bound<'_, PySequence>, exclude: &Bound<'_, PySequence>) -> PyResult<Self> {
        let (include, exclude) = (items(include)?, items(exclude)?);
        Ok(Self(core::Filter::new(&keys(&include)?, &keys(&exclude)?)))
    }

    fn excluded<'py>(&self, py: Python<'py>, keys: &Bound<'py, PySequence>) -> PyResult<Bound<'py, PyList>> {
        let items = items(keys)?;
        let texts = crate::arguments::keys(&items)?;
        let positions: Vec<usize> = py.detach(|| self.0.excluded(texts).collect());
        let found: Vec<_> = positions
            .into_iter()
            .map(|at| items.get_item(at))
            .collect::<PyResult<_>>()?;
        PyList::new(py, found)
    }
}
