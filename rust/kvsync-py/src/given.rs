//! `Given`: changes as their caller gave them, in the order of the segment that logs them.

use kvsync_core::merge::Seeker;
use kvsync_core::{Draft, Listing, segment};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PySequence, PyTuple};

use crate::arguments;
use crate::errors::raise;
use crate::segment::Segment;
use crate::threads::workers;

/// The caller's own key and value objects, so that what was just given need not be read back.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Given {
    draft: Draft<Listing>,
    keys: Py<PyTuple>,
    values: Py<PyTuple>,
    /// They were all puts, given in the order of the segment.
    plain: bool,
    segment: PyOnceLock<Py<Segment>>,
}

/// Keys, values, and where there are any when they expire, of puts; and the keys of deletes.
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
        let draft = py.detach(|| Draft::new(listing, &borrowed, expires, origin, stamp, 0));
        let draft = draft.map_err(|error| raise(py, &error, None))?;
        let plain = borrowed.iter().all(Option::is_some)
            && draft.order().len() == keys.len()
            && (0..).zip(draft.order()).all(|(place, given)| place == *given);
        Ok(Self {
            draft,
            keys: keys.unbind(),
            values: values.unbind(),
            plain,
            segment: PyOnceLock::new(),
        })
    }

    fn __len__(&self) -> usize {
        self.draft.order().len()
    }

    /// The segment that logs them; the digests are taken when it is first asked for.
    #[getter]
    fn segment(&self, py: Python<'_>) -> PyResult<Py<Segment>> {
        let made = self.segment.get_or_try_init(py, || {
            let values = arguments::any_bytes(self.values.bind(py));
            let segment = py.detach(|| self.draft.segment(&values, workers()));
            let segment = segment.map_err(|error| raise(py, &error, None))?;
            Py::new(py, Segment::owned(segment))
        });
        Ok(made?.clone_ref(py))
    }

    fn batches(&self, py: Python<'_>, count_max: usize, bytes_max: u64) -> PyResult<Vec<(usize, usize)>> {
        let values = self.values.bind(py);
        let size = |place: &u32| values.get_borrowed_item(*place as usize).map(bytes_of);
        let sizes: Vec<u64> = self.draft.order().iter().map(size).collect::<PyResult<_>>()?;
        let batches = segment::batches(sizes.into_iter(), count_max, bytes_max);
        batches.map_err(|error| raise(py, &error, None))
    }

    /// A range of the changes, taken apart.
    fn part<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Part<'py>> {
        let deletes = PyList::empty(py);
        if self.plain && self.draft.expires().is_none() {
            let (keys, values) = self.slice(py, start, stop);
            return Ok((keys, values, None, deletes));
        }
        let (keys, values) = (PyList::empty(py), PyList::empty(py));
        let mut times = Vec::new();
        let places = self.draft.order().get(start..stop.min(self.__len__()));
        for place in places.unwrap_or_default() {
            let (key, value) = self.given(py, *place as usize)?;
            if value.is_none() {
                deletes.append(key)?;
                continue;
            }
            keys.append(key)?;
            values.append(value)?;
            if let Some(expires) = self.draft.expires() {
                times.push(expires[*place as usize]);
            }
        }
        Ok((keys, values, self.draft.expires().map(|_| times), deletes))
    }

    /// The keys and values of the puts in a range of `changes`, or None where one of them was not given here.
    fn puts<'py>(
        &self,
        py: Python<'py>,
        changes: &Bound<'py, Segment>,
        start: usize,
        stop: usize,
    ) -> PyResult<Option<(Bound<'py, PyList>, Bound<'py, PyList>)>> {
        let own = self.segment(py)?;
        if self.plain && changes.is(&own) && start <= stop {
            return Ok(Some(self.slice(py, start, stop)));
        }
        let (keys, values) = (PyList::empty(py), PyList::empty(py));
        let mut seeker = Seeker::new(own.get().view());
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
            let (key, value) = self.given(py, self.draft.order()[index] as usize)?;
            keys.append(key)?;
            values.append(value)?;
        }
        Ok(Some((keys, values)))
    }
}

impl Given {
    /// A key and its value, as given at a position.
    fn given<'py>(&self, py: Python<'py>, place: usize) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let item = |all: &Py<PyTuple>| all.bind(py).get_item(place);
        Ok((item(&self.keys)?, item(&self.values)?))
    }

    /// Keys and values as given, in a range of positions.
    fn slice<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> (Bound<'py, PyList>, Bound<'py, PyList>) {
        let part = |all: &Py<PyTuple>| all.bind(py).get_slice(start, stop).to_list();
        (part(&self.keys), part(&self.values))
    }
}

/// How many bytes a value has; none at all is no bytes.
fn bytes_of(value: Borrowed<'_, '_, PyAny>) -> u64 {
    let bytes = value.cast_exact::<PyBytes>();
    bytes.map_or(0, |bytes| bytes.as_bytes().len() as u64)
}
