//! `Piece`, `Walk`, `Merge` and `Correction`: what the last scan of a storage saw.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use kvsync_core::{DIGEST_BYTES, Entry, Held, Kind, MergeOptions, Noted};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySequence, PyString};

use crate::arguments;
use crate::errors::{raise, raise_in, usage};
use crate::found::{FoundValues, Unread};
use crate::page::Page;
use crate::results;
use crate::segment::{Body, Segment};

type Core = kvsync_core::Piece<Body>;
type NotedBytes<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);
type Expired<'py> = Vec<(Bound<'py, PyString>, Bound<'py, PyBytes>)>;
type Strings<'py> = Vec<Bound<'py, PyString>>;

/// An immutable part of an inventory.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Piece(Arc<Core>);

#[pymethods]
impl Piece {
    #[staticmethod]
    fn decode(py: Python<'_>, data: PyBackedBytes, name: &str) -> PyResult<Self> {
        let piece = py.detach(|| {
            let (body, start) = Body::open(Kind::Piece, data)?;
            Core::parse(body, start, name)
        });
        let piece = piece.map(|piece| Self(Arc::new(piece)));
        piece.map_err(|error| raise_in(py, name, &error))
    }

    #[staticmethod]
    fn build(
        py: Python<'_>,
        keys: &Bound<'_, PySequence>,
        tokens: &Bound<'_, PySequence>,
        digests: &Bound<'_, PySequence>,
    ) -> PyResult<Self> {
        let (keys, tokens) = (arguments::items(keys)?, arguments::items(tokens)?);
        let digests = arguments::items(digests)?;
        let noted = Noted {
            keys: &arguments::key_list(&keys)?,
            tokens: &arguments::all_bytes(&tokens)?,
            digests: &arguments::digests(&digests)?,
        };
        let piece = py.detach(|| kvsync_core::Piece::build(noted)).map_err(raise)?;
        Ok(owned(piece))
    }

    #[staticmethod]
    fn of_found(py: Python<'_>, found: &FoundValues) -> PyResult<Self> {
        let found = &found.core;
        py.detach(|| found.piece()).map(owned).map_err(raise)
    }

    #[staticmethod]
    fn of_puts(py: Python<'_>, segment: &Segment) -> PyResult<Self> {
        let view = segment.view();
        py.detach(|| kvsync_core::Piece::of_puts(&view))
            .map(owned)
            .map_err(raise)
    }

    #[pyo3(signature = (name, compress = false))]
    fn encode<'py>(&self, py: Python<'py>, name: &str, compress: bool) -> PyResult<Bound<'py, PyBytes>> {
        let object = py.detach(|| self.0.encode(name, compress)).map_err(raise)?;
        Ok(PyBytes::new(py, &object))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("<Piece of {} keys>", self.0.len())
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.memory_bytes()
    }

    #[getter]
    fn first<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        self.0.first().map(|key| PyString::from_bytes(py, key)).transpose()
    }

    fn find<'py>(&self, keys: &Bound<'py, PySequence>) -> PyResult<Vec<Option<NotedBytes<'py>>>> {
        let items = arguments::items(keys)?;
        let keys = arguments::keys(&items)?;
        let py = items.py();
        let found = py.detach(|| self.0.find(&keys)).into_iter();
        Ok(found.map(|entry| entry.map(|entry| noted(py, &entry))).collect())
    }

    fn ranks(&self, keys: &Bound<'_, PySequence>) -> PyResult<Vec<usize>> {
        let items = arguments::items(keys)?;
        Ok(self.0.ranks(&arguments::keys(&items)?))
    }

    fn every<'py>(&self, py: Python<'py>, step: NonZeroUsize) -> PyResult<Vec<Bound<'py, PyString>>> {
        let keys = self.0.every(step).into_iter();
        keys.map(|key| PyString::from_bytes(py, key)).collect()
    }

    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyString>, NotedBytes<'py>)>> {
        let entry = |entry: Entry<'_>| Ok((PyString::from_bytes(py, entry.key)?, noted(py, &entry)));
        self.0.iter().map(entry).collect()
    }
}

/// A walk along an inventory.
#[pyclass(module = "kvsync._core")]
pub(crate) struct Walk(kvsync_core::Walk<Body>);

#[pymethods]
impl Walk {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn new(lengths: Vec<usize>) -> Self {
        Self(kvsync_core::Walk::new(&lengths))
    }

    fn needs(&self) -> Option<usize> {
        self.0.needs()
    }

    fn supply(&mut self, run: usize, piece: &Piece) -> PyResult<()> {
        self.0.supply(run, piece.0.clone()).map_err(raise)
    }

    #[getter]
    fn known(&self) -> usize {
        self.0.known()
    }

    fn compare<'py>(&mut self, py: Python<'py>, page: &Page, start: usize) -> PyResult<(Strings<'py>, usize)> {
        let (walk, page) = (&mut self.0, &page.0);
        let compared = py.detach(|| walk.compare(page, start)).map_err(raise)?;
        let gone = results::keys(py, compared.gone.iter().map(Vec::as_slice))?;
        Ok((gone, compared.stop))
    }

    fn take(&mut self) -> (FoundValues, Unread) {
        let (found, unread) = self.0.take();
        (found.into(), Unread(unread))
    }

    fn rest<'py>(&mut self, py: Python<'py>) -> PyResult<Strings<'py>> {
        results::keys(py, self.0.rest().iter().map(Vec::as_slice))
    }
}

/// A merge of the runs of an inventory.
#[pyclass(module = "kvsync._core")]
pub(crate) struct Merge(kvsync_core::Merge<Body>);

#[pymethods]
impl Merge {
    #[new]
    #[pyo3(signature = (lengths, piece_bytes, drops_gone, start = None, stop = None))]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn new(lengths: Vec<usize>, piece_bytes: usize, drops_gone: bool, start: Option<&str>, stop: Option<&str>) -> Self {
        let options = MergeOptions {
            drops_gone,
            piece_bytes,
            start: start.map(|key| key.as_bytes().to_vec()),
            stop: stop.map(|key| key.as_bytes().to_vec()),
        };
        Self(kvsync_core::Merge::new(&lengths, options))
    }

    fn needs(&self) -> Option<usize> {
        self.0.needs()
    }

    fn supply(&mut self, run: usize, piece: &Piece) -> PyResult<()> {
        self.0.supply(run, piece.0.clone()).map_err(raise)
    }

    #[getter]
    fn done(&self) -> bool {
        self.0.is_done()
    }

    fn step(&mut self, py: Python<'_>) -> PyResult<Option<Piece>> {
        let merge = &mut self.0;
        Ok(py.detach(|| merge.step()).map_err(raise)?.map(owned))
    }
}

/// What the log knows of a storage, held against its inventory.
#[pyclass(module = "kvsync._core")]
pub(crate) struct Correction {
    core: Option<kvsync_core::Correction<Body>>,
    newest: Py<Segment>,
}

impl Correction {
    fn core(&mut self, py: Python<'_>) -> PyResult<&mut kvsync_core::Correction<Body>> {
        let finished = || usage(py, "the correction is finished", None);
        self.core.as_mut().ok_or_else(finished)
    }
}

#[pymethods]
impl Correction {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    #[expect(clippy::too_many_arguments, reason = "they are arguments in Python")]
    fn new(
        py: Python<'_>,
        lengths: Vec<usize>,
        newest: Py<Segment>,
        held: BTreeMap<String, Option<PyBackedBytes>>,
        expired_ms: u64,
        keeps_tokens: bool,
    ) -> PyResult<Self> {
        let digest = |bytes: PyBackedBytes| {
            let digest: Result<[u8; DIGEST_BYTES], _> = (*bytes).try_into();
            digest.map_err(|_| usage(py, "a digest has to be 32 bytes long", None))
        };
        let instead = held.into_iter();
        let instead = instead.map(|(key, held)| Ok((key.into_bytes(), held.map(digest).transpose()?)));
        let held = Held {
            instead: instead.collect::<PyResult<_>>()?,
            expired_ms,
            keeps_tokens,
        };
        let core = Some(kvsync_core::Correction::new(&lengths, held));
        Ok(Self { core, newest })
    }

    fn needs(&mut self, py: Python<'_>) -> PyResult<Option<usize>> {
        Ok(self.core(py)?.needs())
    }

    fn supply(&mut self, py: Python<'_>, run: usize, piece: &Piece) -> PyResult<()> {
        self.core(py)?.supply(run, piece.0.clone()).map_err(raise)
    }

    #[getter]
    fn done(&self) -> bool {
        self.core.as_ref().is_none_or(kvsync_core::Correction::is_done)
    }

    fn step(&mut self, py: Python<'_>) -> PyResult<()> {
        let newest = self.newest.clone_ref(py);
        let view = newest.get().view();
        let core = self.core(py)?;
        py.detach(|| core.step(&view));
        Ok(())
    }

    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<(Piece, Expired<'py>)> {
        let finished = || usage(py, "the correction is finished", None);
        let core = self.core.take().ok_or_else(finished)?;
        let corrected = core.finish().map_err(raise)?;
        let expired = corrected.expired.iter();
        let expired = expired.map(|(key, digest)| Ok((PyString::from_bytes(py, key)?, PyBytes::new(py, digest))));
        Ok((owned(corrected.patch), expired.collect::<PyResult<_>>()?))
    }
}

/// The token and the digest of an entry.
fn noted<'py>(py: Python<'py>, entry: &Entry<'_>) -> NotedBytes<'py> {
    let token = entry.found.map_or(&[][..], |found| found.token);
    let digest = entry.found.map(|found| PyBytes::new(py, found.digest));
    (PyBytes::new(py, token), digest)
}

fn owned(piece: kvsync_core::Piece<Vec<u8>>) -> Piece {
    Piece(Arc::new(piece.map_bytes(Body::Owned)))
}
