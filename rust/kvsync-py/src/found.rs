//! `FoundValues` and `Unread`: what a scan found, and what it still has to read.

use std::collections::HashSet;

use kvsync_core::{DIGEST_BYTES, KeyList, Standing, Unstamped, Value};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySequence, PyString};

use crate::arguments;
use crate::errors::{raise, usage};
use crate::filter::Filter;
use crate::results;
use crate::segment::Segment;

type Part<'py> = (
    Vec<Bound<'py, PyString>>,
    Vec<Bound<'py, PyBytes>>,
    Vec<Option<Bound<'py, PyBytes>>>,
);
/// Digest, size, expiry and token.
type FoundValue<'py> = (Bound<'py, PyBytes>, u64, u64, Bound<'py, PyBytes>);

/// Values that a scan found, ascending by key.
#[pyclass(module = "kvsync._core")]
#[derive(Default)]
pub(crate) struct FoundValues {
    pub(crate) core: kvsync_core::FoundValues,
    modified_ms: Vec<Option<i64>>,
}

impl From<kvsync_core::FoundValues> for FoundValues {
    fn from(core: kvsync_core::FoundValues) -> Self {
        let modified_ms = Vec::new();
        Self { core, modified_ms }
    }
}

#[pymethods]
impl FoundValues {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[expect(clippy::too_many_arguments, reason = "they are arguments in Python")]
    fn add(
        &mut self,
        key: &Bound<'_, PyString>,
        digest: &[u8],
        size: u64,
        expires: u64,
        token: Option<&[u8]>,
        known: Option<&[u8]>,
    ) -> PyResult<()> {
        let py = key.py();
        let exact = |bytes: &[u8]| -> PyResult<[u8; DIGEST_BYTES]> {
            let wrong = |_| usage(py, "a digest has to be 32 bytes long", None);
            bytes.try_into().map_err(wrong)
        };
        let (digest, known) = (&exact(digest)?, known.map(exact).transpose()?);
        let value = Value { digest, size, expires };
        let key = arguments::key(key.as_any().as_borrowed())?;
        self.core.push(key, value, token, known.as_ref());
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }

    fn __repr__(&self) -> String {
        format!("<FoundValues of {} keys>", self.core.len())
    }

    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn merge(parts: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let parts: Vec<_> = parts.iter().map(|part| &part.core).collect();
        kvsync_core::FoundValues::merge(&parts).map(Self::from).map_err(raise)
    }

    fn keys<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<Bound<'py, PyString>>> {
        let keys = self.core.keys();
        let stop = stop.min(keys.len());
        results::keys(py, (start.min(stop)..stop).map(|index| keys.get(index)))
    }

    #[getter]
    fn same<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyString>>> {
        self.keys_in(py, Standing::Same)
    }

    #[getter]
    fn changed<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyString>>> {
        self.keys_in(py, Standing::Changed)
    }

    fn find<'py>(&self, keys: &Bound<'py, PySequence>) -> PyResult<Vec<Option<FoundValue<'py>>>> {
        let py = keys.py();
        let items = arguments::items(keys)?;
        let found = |key: &str| {
            let index = self.core.find(key)?;
            let value = self.core.get(index);
            let token = PyBytes::new(py, &self.core.token(index));
            Some((PyBytes::new(py, value.digest), value.size, value.expires, token))
        };
        Ok(arguments::keys(&items)?.into_iter().map(found).collect())
    }

    fn without(&self, keys: &Bound<'_, PySequence>) -> PyResult<Self> {
        let items = arguments::items(keys)?;
        let keys: HashSet<_> = arguments::keys(&items)?.into_iter().collect();
        let rest = self.core.filtered(|index| !keys.contains(self.core.keys().str(index)));
        Ok(rest.into())
    }

    fn excluded<'py>(&self, py: Python<'py>, filter: &Bound<'py, Filter>) -> PyResult<Vec<Bound<'py, PyString>>> {
        let (keys, filter) = (self.core.keys(), filter.get());
        let positions: Vec<_> = py.detach(|| {
            let texts = (0..keys.len()).map(|index| keys.str(index));
            filter.0.excluded(texts).collect()
        });
        results::keys(py, positions.into_iter().map(|index| keys.get(index)))
    }

    fn add_times(&mut self, times: Vec<Option<i64>>) {
        self.modified_ms.extend(times);
    }
}

impl FoundValues {
    fn keys_in<'py>(&self, py: Python<'py>, standing: Standing) -> PyResult<Vec<Bound<'py, PyString>>> {
        let keys = self.core.keys();
        results::keys(py, self.core.in_standing(standing).map(|index| keys.get(index)))
    }
}

/// Keys of a listing whose values have to be read.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Unread(pub(crate) kvsync_core::Unread);

#[pymethods]
impl Unread {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn part<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Part<'py>> {
        let stop = stop.min(self.0.len());
        let rows: Vec<_> = (start.min(stop)..stop).map(|index| self.0.get(index)).collect();
        Ok((
            results::keys(py, rows.iter().map(|(key, _, _)| *key))?,
            rows.iter().map(|(_, token, _)| PyBytes::new(py, token)).collect(),
            rows.iter()
                .map(|(_, _, known)| known.map(|digest| PyBytes::new(py, digest)))
                .collect(),
        ))
    }
}

/// What one side found: values, deleted keys in any order, when each was deleted (empty: nobody knows), origin, clock,
/// and whether it has a log.
type Side<'py> = (
    PyRef<'py, FoundValues>,
    Bound<'py, PySequence>,
    Vec<Option<i64>>,
    u64,
    u64,
    bool,
);

/// The least and the greatest stamp of what is logged as changes of the first side.
type Shared = Option<(u64, u64)>;

/// Stamp what the scans of all sides of a run found.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
pub(crate) fn stamp_found(py: Python<'_>, sides: Vec<Side<'_>>, now_ms: u64) -> PyResult<Vec<(Segment, Shared)>> {
    let mut deletes = Vec::with_capacity(sides.len());
    for side in &sides {
        let items = arguments::items(&side.1)?;
        let keys = arguments::keys(&items)?;
        let times = side.2.iter().copied().chain(std::iter::repeat(None));
        let mut dated: Vec<_> = keys.into_iter().zip(times).collect();
        dated.sort_unstable();
        let times: Vec<_> = dated.iter().map(|(_, time)| *time).collect();
        deletes.push((dated.iter().map(|(key, _)| *key).collect::<KeyList>(), times));
    }
    let unstamped = sides.iter().zip(&deletes);
    let unstamped: Vec<_> = unstamped
        .map(|((found, _, _, origin, clock, has_log), (deletes, times))| Unstamped {
            puts: &found.core,
            modified_ms: &found.modified_ms,
            deletes,
            deleted_ms: times,
            origin: *origin,
            clock: *clock,
            has_log: *has_log,
        })
        .collect();
    let stamped = py
        .detach(|| kvsync_core::stamp_found(&unstamped, now_ms))
        .map_err(raise)?;
    let stamped = stamped.into_iter();
    Ok(stamped
        .map(|side| {
            (
                side.changes.into(),
                side.shared.clone().max().map(|last| (side.shared.start, last)),
            )
        })
        .collect())
}
