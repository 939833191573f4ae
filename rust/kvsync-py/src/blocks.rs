//! `Directory`, `BlockReader`, `BlockDelta` and `BlockMerge`: large segments in blocks, which the caller reads.

use std::collections::BTreeMap;

use kvsync_core::Row;
use kvsync_core::blocks::{self, BlockSide, BlockWriter, MergeSizes, Need, Run, Scrutiny, Target};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySequence};

use crate::arguments;
use crate::cover::Cover;
use crate::delta::Delta;
use crate::errors::{raise, raise_in, usage};
use crate::segment::{Segment, views};

/// A range to read: number of the side or run, name of the pack, offset, length.
type PyNeed = (usize, String, u64, u64);

/// What one segment in blocks consists of.
#[pyclass(frozen, module = "kvsync._core")]
pub(crate) struct Directory(blocks::Directory);

#[pymethods]
impl Directory {
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn decode(py: Python<'_>, data: PyBackedBytes, name: &str) -> PyResult<Self> {
        let directory = py.detach(|| blocks::Directory::decode(&data, name));
        directory.map(Self).map_err(|error| raise_in(py, name, &error))
    }

    #[staticmethod]
    #[pyo3(signature = (segment, pack, target = None))]
    fn build<'py>(
        py: Python<'py>,
        segment: &Bound<'py, Segment>,
        pack: &str,
        target: Option<u32>,
    ) -> PyResult<(Self, Bound<'py, PyBytes>)> {
        let view = segment.get().view();
        let target = target_of(target)?;
        let built = py.detach(|| {
            let mut writer = BlockWriter::new(target, pack);
            view.iter().try_for_each(|row: Row<'_>| writer.push(&row))?;
            writer.finish()
        });
        let (directory, bytes) = built.map_err(raise)?;
        Ok((Self(directory), PyBytes::new(py, &bytes)))
    }

    #[pyo3(signature = (name, compress = false))]
    fn encode<'py>(&self, py: Python<'py>, name: &str, compress: bool) -> PyResult<Bound<'py, PyBytes>> {
        let object = py.detach(|| self.0.encode(name, compress)).map_err(raise)?;
        Ok(PyBytes::new(py, &object))
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.0.table().count()).unwrap_or(usize::MAX)
    }

    fn __repr__(&self) -> String {
        format!("<Directory of {} changes>", self.0.table().count())
    }

    #[getter]
    fn target(&self) -> u32 {
        self.0.target().bytes()
    }

    #[getter]
    fn depth(&self) -> u8 {
        if self.0.is_paged() { 2 } else { 1 }
    }

    #[getter]
    fn packs(&self) -> Vec<String> {
        self.0.packs().to_vec()
    }

    #[getter]
    fn maxima(&self) -> BTreeMap<u64, u64> {
        self.0.table().maxima().into_iter().collect()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.table().memory_bytes()
    }

    #[getter]
    fn sums<'py>(&self, py: Python<'py>) -> (Bound<'py, PyBytes>, Bound<'py, PyBytes>) {
        let sums = self.0.table().sums();
        let bytes = |sum: u128| PyBytes::new(py, &sum.to_le_bytes());
        (bytes(sums.changes), bytes(sums.content))
    }
}

impl Directory {
    fn name(&self, pack: u32) -> String {
        let place = usize::try_from(pack).unwrap_or(usize::MAX);
        self.0.packs().get(place).cloned().unwrap_or_default()
    }
}

fn target_of(bytes: Option<u32>) -> PyResult<Target> {
    bytes.map_or(Ok(Target::default()), Target::new).map_err(raise)
}

fn slices(ranges: &[PyBackedBytes]) -> Vec<&[u8]> {
    ranges.iter().map(AsRef::as_ref).collect()
}

/// A cursor over the changes of a directory.
#[pyclass(module = "kvsync._core")]
pub(crate) struct BlockReader {
    directory: Py<Directory>,
    core: blocks::BlockReader,
}

#[pymethods]
impl BlockReader {
    #[new]
    #[pyo3(signature = (directory, keys = None, scrutiny = "usual", read_ahead_bytes = 1_048_576))]
    fn new(
        py: Python<'_>,
        directory: Py<Directory>,
        keys: Option<&Bound<'_, PySequence>>,
        scrutiny: &str,
        read_ahead_bytes: u64,
    ) -> PyResult<Self> {
        let scrutiny = match scrutiny {
            "usual" => Scrutiny::Usual,
            "thorough" => Scrutiny::Thorough,
            "lenient" => Scrutiny::Lenient,
            _ => return Err(usage(py, "scrutiny is \"usual\", \"thorough\" or \"lenient\"", None)),
        };
        let items = keys.map(arguments::items).transpose()?;
        let keys = items.as_ref().map(arguments::keys).transpose()?;
        let keys: Option<Vec<&[u8]>> = keys.map(|keys| keys.into_iter().map(str::as_bytes).collect());
        let core = {
            let directory = &directory.get().0;
            py.detach(|| blocks::BlockReader::new(directory, keys.as_deref(), scrutiny, read_ahead_bytes))
        };
        Ok(Self { directory, core })
    }

    fn needs(&self) -> Vec<PyNeed> {
        let named = |need: &Need| (need.run, self.directory.get().name(need.pack), need.offset, need.length);
        self.core.needs().iter().map(named).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn feed(&mut self, py: Python<'_>, ranges: Vec<PyBackedBytes>) -> PyResult<()> {
        let ranges = slices(&ranges);
        let directory = self.directory.get();
        let core = &mut self.core;
        let fed = py.detach(|| core.feed(&directory.0, &ranges));
        fed.map_err(|error| raise_in(py, &directory.name(self.core.pack()), &error))
    }

    fn take(&mut self, py: Python<'_>) -> PyResult<Segment> {
        let core = &mut self.core;
        py.detach(|| core.take()).map(Segment::from).map_err(raise)
    }

    #[getter]
    fn block_bytes(&self) -> u64 {
        self.core.block_bytes()
    }
}

/// A delta in the making, over the blocks of two sides.
#[pyclass(module = "kvsync._core")]
pub(crate) struct BlockDelta {
    directories: [Py<Directory>; 2],
    patches: [Vec<Py<Segment>>; 2],
    covers: [Py<Cover>; 2],
    core: Option<blocks::BlockDelta>,
}

impl BlockDelta {
    /// Work on the core's delta, which is made if there is none yet.
    fn work<T: Send>(
        &mut self,
        py: Python<'_>,
        work: impl FnOnce(&mut Option<blocks::BlockDelta>, [BlockSide<'_>; 2]) -> kvsync_core::Result<T> + Send,
    ) -> PyResult<T> {
        let views = self.patches.each_ref().map(|patches| views(patches));
        let sides = [0, 1].map(|run| BlockSide {
            directory: &self.directories[run].get().0,
            patches: &views[run],
            cover: &self.covers[run].get().0,
        });
        let core = &mut self.core;
        py.detach(|| work(core, sides)).map_err(raise)
    }
}

#[pymethods]
impl BlockDelta {
    #[new]
    #[pyo3(
        signature = (a, b, cover_a, cover_b, patches_a = vec![], patches_b = vec![], read_ahead_bytes = 1_048_576),
        text_signature = "(a, b, cover_a, cover_b, patches_a=(), patches_b=(), read_ahead_bytes=1048576)"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        a: Py<Directory>,
        b: Py<Directory>,
        cover_a: Py<Cover>,
        cover_b: Py<Cover>,
        patches_a: Vec<Py<Segment>>,
        patches_b: Vec<Py<Segment>>,
        read_ahead_bytes: u64,
    ) -> PyResult<Self> {
        let mut delta = Self {
            directories: [a, b],
            patches: [patches_a, patches_b],
            covers: [cover_a, cover_b],
            core: None,
        };
        delta.work(py, |core, sides| {
            *core = Some(blocks::BlockDelta::new(sides, read_ahead_bytes)?);
            Ok(())
        })?;
        Ok(delta)
    }

    fn needs(&self) -> Vec<PyNeed> {
        let needs = self.core.as_ref().map_or(&[][..], blocks::BlockDelta::needs);
        let named = |need: &Need| {
            let pack = self.directories[need.run].get().name(need.pack);
            (need.run, pack, need.offset, need.length)
        };
        needs.iter().map(named).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn feed(&mut self, py: Python<'_>, ranges: Vec<PyBackedBytes>) -> PyResult<()> {
        let ranges = slices(&ranges);
        self.work(py, |core, sides| {
            core.as_mut().map_or(Ok(()), |delta| delta.feed(sides, &ranges))
        })
    }

    fn take(&mut self, py: Python<'_>) -> PyResult<Delta> {
        let found = self.work(py, |core, _| core.as_mut().map(blocks::BlockDelta::take).transpose())?;
        match found {
            Some(found) => Delta::of_core(py, found),
            None => Err(pyo3::exceptions::PyRuntimeError::new_err("the delta failed")),
        }
    }
}

/// One of the runs of a merge.
enum PyRun {
    Blocks(Py<Directory>),
    Segment(Py<Segment>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for PyRun {
    type Error = PyErr;

    fn extract(item: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(directory) = item.cast::<Directory>() {
            return Ok(Self::Blocks(directory.to_owned().unbind()));
        }
        Ok(Self::Segment(item.cast::<Segment>()?.to_owned().unbind()))
    }
}

impl PyRun {
    fn as_run(&self) -> Run<'_> {
        match self {
            Self::Blocks(directory) => Run::Blocks(&directory.get().0),
            Self::Segment(segment) => Run::Segment(segment.get().view()),
        }
    }
}

/// A merge in the making, over blocks and segments.
#[pyclass(module = "kvsync._core")]
pub(crate) struct BlockMerge {
    runs: Vec<PyRun>,
    core: blocks::BlockMerge,
}

#[pymethods]
impl BlockMerge {
    #[new]
    #[pyo3(signature = (runs, pack, target = None, read_ahead_bytes = 1_048_576, pack_bytes = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        runs: Vec<PyRun>,
        pack: &str,
        target: Option<u32>,
        read_ahead_bytes: u64,
        pack_bytes: Option<u64>,
    ) -> PyResult<Self> {
        let target = target_of(target)?;
        let sizes = MergeSizes {
            read_ahead_bytes,
            pack_bytes: pack_bytes.unwrap_or(u64::MAX),
        };
        let core = {
            let runs: Vec<_> = runs.iter().map(PyRun::as_run).collect();
            py.detach(|| blocks::BlockMerge::new(&runs, target, pack, sizes))
        };
        let core = core.map_err(raise)?;
        Ok(Self { runs, core })
    }

    fn needs(&self) -> Vec<PyNeed> {
        let named = |need: &Need| match &self.runs[need.run] {
            PyRun::Blocks(directory) => (need.run, directory.get().name(need.pack), need.offset, need.length),
            PyRun::Segment(_) => (need.run, String::new(), need.offset, need.length),
        };
        self.core.needs().iter().map(named).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]
    fn feed(&mut self, py: Python<'_>, ranges: Vec<PyBackedBytes>) -> PyResult<()> {
        let ranges = slices(&ranges);
        let runs: Vec<_> = self.runs.iter().map(PyRun::as_run).collect();
        let core = &mut self.core;
        py.detach(|| core.feed(&runs, &ranges)).map_err(raise)
    }

    #[getter]
    fn done(&self) -> bool {
        self.core.is_done()
    }

    #[getter]
    fn pack_bytes(&self) -> u64 {
        self.core.pack_bytes()
    }

    #[getter]
    fn block_bytes(&self) -> u64 {
        self.core.block_bytes()
    }

    fn take<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.core.take())
    }

    fn begin_pack(&mut self, name: &str) -> PyResult<()> {
        self.core.begin_pack(name).map_err(raise)
    }

    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<(Directory, Bound<'py, PyBytes>)> {
        let core = &mut self.core;
        let (directory, bytes) = py.detach(|| core.finish()).map_err(raise)?;
        Ok((Directory(directory), PyBytes::new(py, &bytes)))
    }
}
