//! `Segment`: an immutable sorted set of changes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kvsync_core::{Row, View, build, digest, draft, merge};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySequence, PyString};

use crate::arguments::{self, Digest, Key};
use crate::errors::{raise, usage};
use crate::threads::workers;

/// The caller's bytes, never copied, or bytes of our own.
pub(crate) type Body = kvsync_core::Body<PyBackedBytes>;

/// A row as Python sees it.
pub(crate) type PyRow<'py> = (Bound<'py, PyString>, u64, u64, u8, u64, Bound<'py, PyBytes>, u64);

/// An immutable sorted set of changes. Both sides of a first run log the same one, under the same name.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Segment {
    changes: kvsync_core::Segment<Body>,
    /// The digest of them all, once it was asked for.
    newest: OnceLock<[u8; 16]>,
    /// The object that was made of them first.
    object: OnceLock<Object>,
}

struct Object {
    name: String,
    compress: bool,
    bytes: Py<PyBytes>,
}

impl Segment {
    pub(crate) fn owned(segment: kvsync_core::Segment<Vec<u8>>) -> Self {
        Self::new(segment.map_bytes(Body::Owned))
    }

    const fn new(segment: kvsync_core::Segment<Body>) -> Self {
        Self {
            changes: segment,
            newest: OnceLock::new(),
            object: OnceLock::new(),
        }
    }

    /// One without changes.
    pub(crate) fn empty(py: Python<'_>) -> PyResult<Self> {
        let segment = build::from_rows(Vec::new());
        segment.map(Self::owned).map_err(|error| raise(py, &error, None))
    }

    pub(crate) fn view(&self) -> View<'_> {
        self.changes.view()
    }
}

#[pymethods]
impl Segment {
    #[staticmethod]
    fn decode(py: Python<'_>, data: PyBackedBytes, name: &str) -> PyResult<Self> {
        let mut segments = decode_all(py, vec![(data, name)])?;
        segments.pop().ok_or_else(|| usage(py, "nothing to decode", None))
    }

    #[staticmethod]
    #[pyo3(name = "decode_all")]
    fn decode_many(py: Python<'_>, objects: &Bound<'_, PySequence>) -> PyResult<Vec<Self>> {
        let items = arguments::items(objects)?;
        let objects = items.iter_borrowed().map(object);
        decode_all(py, objects.collect::<PyResult<_>>()?)
    }

    #[staticmethod]
    fn from_rows(py: Python<'_>, rows: &Bound<'_, PySequence>) -> PyResult<Self> {
        let items = arguments::items(rows)?;
        let rows: Vec<Row<'_>> = items.iter_borrowed().map(row).collect::<PyResult<_>>()?;
        let segment = py.detach(|| build::from_rows(rows));
        segment.map(Self::owned).map_err(|error| raise(py, &error, None))
    }

    #[staticmethod]
    #[pyo3(signature = (keys, values, origin, stamp, flags = 0, expires = None))]
    fn from_values(
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        values: &Bound<'_, PySequence>,
        origin: u64,
        stamp: u64,
        flags: u8,
        expires: Option<&Bound<'_, PySequence>>,
    ) -> PyResult<Self> {
        let (keys, values) = (arguments::items(keys)?, arguments::items(values)?);
        let keys = arguments::listing(&keys)?;
        let values = arguments::values(&values, &keys)?;
        let expires = expires.map(arguments::expiries).transpose()?;
        let build = || draft::from_values(&keys, &values, expires, origin, stamp, flags);
        let segment = py.detach(build);
        segment.map(Self::owned).map_err(|error| raise(py, &error, None))
    }

    #[staticmethod]
    #[pyo3(name = "merge")]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn merge_all(py: Python<'_>, segments: Vec<Py<Self>>) -> PyResult<Py<Self>> {
        if let [single] = segments.as_slice() {
            return Ok(single.clone_ref(py));
        }
        let views = views(&segments);
        let merged = py.detach(|| merge::merge(&views));
        Py::new(py, Self::owned(merged.map_err(|error| raise(py, &error, None))?))
    }

    #[pyo3(signature = (name, compress = false))]
    fn encode<'py>(&self, py: Python<'py>, name: &str, compress: bool) -> PyResult<Bound<'py, PyBytes>> {
        let made = self.object.get();
        if let Some(made) = made.filter(|made| made.name == name && made.compress == compress) {
            return Ok(made.bytes.bind(py).clone());
        }
        let bytes = if compress {
            let object = py.detach(|| self.changes.encode(name, true));
            PyBytes::new(py, &object.map_err(|error| raise(py, &error, None))?)
        } else {
            let outline = self.changes.outline(name);
            let outline = outline.map_err(|error| raise(py, &error, None))?;
            let write = |object: &mut [u8]| {
                py.detach(|| outline.write(object));
                Ok(())
            };
            PyBytes::new_with(py, outline.len(), write)?
        };
        self.object.get_or_init(|| Object {
            name: name.to_owned(),
            compress,
            bytes: bytes.clone().unbind(),
        });
        Ok(bytes)
    }

    fn __len__(&self) -> usize {
        self.view().len()
    }

    fn __repr__(&self) -> String {
        format!("<Segment of {} changes>", self.view().len())
    }

    #[getter]
    fn maxima(&self) -> BTreeMap<u64, u64> {
        self.view().maxima().collect()
    }

    #[getter]
    fn stamp_max(&self) -> u64 {
        self.view().stamp_max()
    }

    #[getter]
    fn value_bytes(&self) -> u64 {
        self.view().value_bytes()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.changes.memory()
    }

    #[getter]
    fn tombstones(&self) -> usize {
        self.view().tombstones()
    }

    #[getter]
    fn expiring(&self) -> usize {
        self.view().expiring()
    }

    fn batches(&self, py: Python<'_>, count_max: usize, bytes_max: u64) -> PyResult<Vec<(usize, usize)>> {
        let batches = self.view().batches(count_max, bytes_max);
        batches.map_err(|error| raise(py, &error, None))
    }

    fn puts<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<Bound<'py, PyString>>> {
        let rows = self.view().rows(start, stop);
        let puts = rows.filter(|row| !row.deletes());
        puts.map(|row| PyString::from_bytes(py, row.key)).collect()
    }

    fn expires(&self, start: usize, stop: usize) -> Vec<u64> {
        self.view().expires(start, stop)
    }

    fn expired<'py>(&self, py: Python<'py>, now_ms: u64) -> PyResult<Vec<Bound<'py, PyString>>> {
        let keys = self.view().expired(now_ms).into_iter();
        keys.map(|key| PyString::from_bytes(py, key)).collect()
    }

    fn deletes<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<Bound<'py, PyString>>> {
        let rows = self.view().rows(start, stop);
        let deletes = rows.filter(Row::deletes);
        deletes.map(|row| PyString::from_bytes(py, row.key)).collect()
    }

    fn rows<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<PyRow<'py>>> {
        let rows = self.view().rows(start, stop);
        rows.map(|row| to_tuple(py, &row)).collect()
    }

    fn mismatches(
        &self,
        py: Python<'_>,
        start: usize,
        stop: usize,
        values: &Bound<'_, PySequence>,
    ) -> PyResult<Vec<usize>> {
        let items = arguments::items(values)?;
        let values = arguments::any_bytes(&items);
        let view = self.view();
        if values.len() != view.puts(start, stop) {
            return Err(usage(py, "values and puts differ in length", None));
        }
        Ok(py.detach(|| view.mismatches(start, stop, &values, workers())))
    }

    fn find<'py>(&self, py: Python<'py>, keys: &Bound<'py, PySequence>) -> PyResult<Vec<Option<PyRow<'py>>>> {
        let items = arguments::items(keys)?;
        let keys = arguments::keys(&items)?;
        let view = self.view();
        let found = py.detach(|| view.find(&keys));
        let tuple = |row: Option<Row<'_>>| row.map(|row| to_tuple(py, &row)).transpose();
        found.into_iter().map(tuple).collect()
    }

    fn without(&self, py: Python<'_>, keys: &Bound<'_, PySequence>) -> PyResult<Self> {
        let items = arguments::items(keys)?;
        let keys = arguments::keys(&items)?;
        let view = self.view();
        let rest = py.detach(|| merge::without(view, &keys));
        rest.map(Self::owned).map_err(|error| raise(py, &error, None))
    }
}

/// Objects with their names as segments, or the error of the first that has one.
fn decode_all(py: Python<'_>, objects: Vec<(PyBackedBytes, &str)>) -> PyResult<Vec<Segment>> {
    let names: Vec<&str> = objects.iter().map(|(_, name)| *name).collect();
    let segments = py.detach(|| kvsync_core::decode_all(objects, workers()));
    let segments = segments.map_err(|(index, error)| raise(py, &error, Some(names[index])))?;
    Ok(segments.into_iter().map(Segment::new).collect())
}

/// The columns of segments.
pub(crate) fn views(segments: &[Py<Segment>]) -> Vec<View<'_>> {
    segments.iter().map(|segment| segment.get().view()).collect()
}

/// The digest of the newest changes of some segments.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
pub(crate) fn newest_digest(py: Python<'_>, segments: Vec<Py<Segment>>) -> Bound<'_, PyBytes> {
    let views = views(&segments);
    let newest = || digest::of_newest(merge::Newest::new(views.iter().map(View::iter)));
    let digest = py.detach(|| match segments.as_slice() {
        // As both sides of a first run have nothing else.
        [single] => *single.get().newest.get_or_init(newest),
        _ => newest(),
    });
    PyBytes::new(py, &digest)
}

/// A row as a tuple.
pub(crate) fn to_tuple<'py>(py: Python<'py>, row: &Row<'_>) -> PyResult<PyRow<'py>> {
    Ok((
        PyString::from_bytes(py, row.key)?,
        row.origin,
        row.stamp,
        row.flags,
        row.size,
        PyBytes::new(py, row.digest),
        row.expires,
    ))
}

fn row<'a>(item: Borrowed<'a, '_, PyAny>) -> PyResult<Row<'a>> {
    type Parts<'a> = (Key<'a>, u64, u64, u8, u64, Digest<'a>, u64);
    let (key, origin, stamp, flags, size, digest, expires) = Parts::extract(item)?;
    Ok(Row {
        key: key.0.as_bytes(),
        origin,
        stamp,
        flags,
        size,
        expires,
        digest: digest.0,
    })
}

fn object<'a>(item: Borrowed<'a, '_, PyAny>) -> PyResult<(PyBackedBytes, &'a str)> {
    <(PyBackedBytes, &str)>::extract(item)
}
