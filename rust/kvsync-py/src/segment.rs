//! `Segment`: an immutable sorted set of changes.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use kvsync_core::{BatchLimits, Collected, NewValues, Provenance, Row, Span, View};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySequence, PyString};

use crate::arguments;
use crate::errors::{raise, raise_in, usage};
use crate::results::{self, PyRow};
use crate::threads::workers;

/// The caller's bytes, never copied, or bytes of our own.
pub(crate) type Body = kvsync_core::Body<PyBackedBytes>;

/// A larger object is encoded anew rather than kept in memory a second time.
const REMEMBERED_BYTES_MAX: usize = 16 << 20;

/// An immutable sorted set of changes.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Segment {
    core: kvsync_core::Segment<Body>,
    /// The object that was encoded first: both sides of a first run store the same segment, under the same name.
    object: OnceLock<Object>,
}

struct Object {
    name: String,
    note: Vec<u8>,
    compress: bool,
    bytes: Py<PyBytes>,
}

impl From<kvsync_core::Segment<Body>> for Segment {
    fn from(core: kvsync_core::Segment<Body>) -> Self {
        let object = OnceLock::new();
        Self { core, object }
    }
}

impl From<kvsync_core::Segment<Vec<u8>>> for Segment {
    fn from(core: kvsync_core::Segment<Vec<u8>>) -> Self {
        core.map_bytes(Body::Owned).into()
    }
}

impl Segment {
    /// A segment without changes.
    pub(crate) fn empty() -> PyResult<Self> {
        built(kvsync_core::Segment::from_rows(Vec::new()))
    }

    pub(crate) fn view(&self) -> View<'_> {
        self.core.view()
    }

    fn encode_anew<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        note: &[u8],
        compress: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if compress {
            let object = py.detach(|| self.core.encode_with(name, note, true));
            return Ok(PyBytes::new(py, &object.map_err(raise)?));
        }
        let encoding = self.core.encoding(name, note).map_err(raise)?;
        PyBytes::new_with(py, encoding.len(), |object| {
            py.detach(|| encoding.write(object));
            Ok(())
        })
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
        let objects = items.iter_borrowed().map(<(PyBackedBytes, &str)>::extract);
        decode_all(py, objects.collect::<PyResult<_>>()?)
    }

    #[staticmethod]
    fn from_rows(py: Python<'_>, rows: &Bound<'_, PySequence>) -> PyResult<Self> {
        let items = arguments::items(rows)?;
        let rows: Vec<Row<'_>> = items.iter_borrowed().map(arguments::row).collect::<PyResult<_>>()?;
        built(py.detach(|| kvsync_core::Segment::from_rows(rows)))
    }

    #[staticmethod]
    #[pyo3(signature = (keys, values, origin, stamp, flags = 0, expires = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
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
        let keys = &arguments::key_list(&keys)?;
        let values = &arguments::values(&values, keys)?;
        let expires = arguments::expires(expires)?;
        let new = NewValues { keys, values, expires };
        let provenance = Provenance {
            origin,
            first_stamp: stamp,
            flags,
        };
        built(py.detach(|| kvsync_core::Segment::from_values(new, provenance)))
    }

    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn merge(py: Python<'_>, segments: Vec<Py<Self>>) -> PyResult<Py<Self>> {
        if let [single] = segments.as_slice() {
            return Ok(single.clone_ref(py));
        }
        let views = views(&segments);
        Py::new(py, built(py.detach(|| kvsync_core::Segment::merge(&views)))?)
    }

    #[pyo3(signature = (name, compress = false, note = None))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        compress: bool,
        note: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let note = note.unwrap_or_default();
        let same = |object: &&Object| object.name == name && object.compress == compress && object.note == note;
        if let Some(object) = self.object.get().filter(same) {
            return Ok(object.bytes.bind(py).clone());
        }
        let bytes = self.encode_anew(py, name, note, compress)?;
        if bytes.as_bytes().len() <= REMEMBERED_BYTES_MAX {
            self.object.get_or_init(|| Object {
                name: name.to_owned(),
                note: note.to_vec(),
                compress,
                bytes: bytes.clone().unbind(),
            });
        }
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
    fn passing(&self) -> BTreeMap<u64, u64> {
        self.view().passing()
    }

    #[getter]
    fn stamp_min(&self) -> u64 {
        self.view().stamp_min()
    }

    #[getter]
    fn exact_stamp_min(&self) -> Option<u64> {
        self.view().exact_stamp_min()
    }

    #[getter]
    fn value_bytes(&self) -> u64 {
        self.view().value_bytes()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.core.memory_bytes()
    }

    #[getter]
    fn tombstones(&self) -> usize {
        self.view().tombstones()
    }

    #[getter]
    fn expiring(&self) -> usize {
        self.view().expiring()
    }

    #[getter]
    fn note<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.core.note())
    }

    fn batches(&self, count_max: usize, bytes_max: u64) -> PyResult<Vec<(usize, usize)>> {
        let batches = self.view().batches(BatchLimits { count_max, bytes_max });
        batches.map_err(raise)
    }

    fn puts<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<Bound<'py, PyString>>> {
        let puts = self.view().rows(start..stop).filter(|row| !row.deletes());
        results::keys(py, puts.map(|row| row.key))
    }

    fn expires(&self, start: usize, stop: usize) -> Vec<u64> {
        self.view().expires(start..stop)
    }

    fn expired<'py>(&self, py: Python<'py>, now_ms: u64) -> PyResult<Vec<Bound<'py, PyString>>> {
        results::keys(py, self.view().expired(now_ms))
    }

    fn deletes<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<Bound<'py, PyString>>> {
        let deletes = self.view().rows(start..stop).filter(Row::deletes);
        results::keys(py, deletes.map(|row| row.key))
    }

    fn rows<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<PyRow<'py>>> {
        let rows = self.view().rows(start..stop);
        rows.map(|row| results::row(py, &row)).collect()
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
        py.detach(|| view.mismatches(start..stop, &values, workers()))
            .map_err(raise)
    }

    fn find<'py>(&self, py: Python<'py>, keys: &Bound<'py, PySequence>) -> PyResult<Vec<Option<PyRow<'py>>>> {
        let items = arguments::items(keys)?;
        let keys = arguments::keys(&items)?;
        let view = self.view();
        let found = py.detach(|| view.find(&keys)).into_iter();
        found
            .map(|row| row.map(|row| results::row(py, &row)).transpose())
            .collect()
    }

    fn without(&self, py: Python<'_>, keys: &Bound<'_, PySequence>) -> PyResult<Self> {
        let items = arguments::items(keys)?;
        let keys = arguments::keys(&items)?;
        let view = self.view();
        built(py.detach(|| view.without(&keys)))
    }

    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn collected(
        &self,
        py: Python<'_>,
        limits: BTreeMap<u64, u64>,
        expired_ms: u64,
        keep: &Bound<'_, PySequence>,
    ) -> PyResult<(Self, BTreeMap<u64, u64>)> {
        let items = arguments::items(keep)?;
        let keep: HashSet<&[u8]> = arguments::keys(&items)?.into_iter().map(str::as_bytes).collect();
        let view = self.view();
        let found = py.detach(|| view.collected(&limits, expired_ms, &keep));
        let Collected { rest, floor } = found.map_err(raise)?;
        Ok((rest.into(), floor))
    }

    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn renamed(&self, py: Python<'_>, spans: Vec<(u64, u64, u64, u64)>) -> PyResult<Self> {
        let named = |&(origin, first, last, name)| (Span { origin, first, last }, name);
        let spans: Vec<_> = spans.iter().map(named).collect();
        let view = self.view();
        built(py.detach(|| view.renamed(&spans)))
    }
}

fn built(segment: kvsync_core::Result<kvsync_core::Segment<Vec<u8>>>) -> PyResult<Segment> {
    segment.map(Segment::from).map_err(raise)
}

fn decode_all(py: Python<'_>, objects: Vec<(PyBackedBytes, &str)>) -> PyResult<Vec<Segment>> {
    let names: Vec<&str> = objects.iter().map(|(_, name)| *name).collect();
    let segments = py.detach(|| kvsync_core::decode_all(objects, workers()));
    let segments = segments.map_err(|(index, error)| raise_in(py, names[index], &error))?;
    Ok(segments.into_iter().map(Segment::from).collect())
}

/// The columns of segments.
pub(crate) fn views(segments: &[Py<Segment>]) -> Vec<View<'_>> {
    segments.iter().map(|segment| segment.get().view()).collect()
}

/// Return the digest of the newest changes of some segments.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
pub(crate) fn newest_digest(py: Python<'_>, segments: Vec<Py<Segment>>) -> Bound<'_, PyBytes> {
    let segments: Vec<_> = segments.iter().map(|segment| &segment.get().core).collect();
    PyBytes::new(py, &py.detach(|| kvsync_core::newest_digest(&segments)))
}
