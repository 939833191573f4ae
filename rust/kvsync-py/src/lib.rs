//! The extension module `kvsync._core`; its contract is `python/kvsync/_core.pyi`.

mod arguments;
mod blocks;
mod cover;
mod delta;
mod errors;
mod filter;
mod found;
mod functions;
mod given;
mod hasher;
mod inventory;
mod page;
mod results;
mod segment;
mod threads;

#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use crate::blocks::{BlockDelta, BlockMerge, BlockReader, Directory};
    #[pymodule_export]
    use crate::cover::Cover;
    #[pymodule_export]
    use crate::delta::{Delta, delta};
    #[pymodule_export]
    use crate::filter::Filter;
    #[pymodule_export]
    use crate::found::{FoundValues, Unread, stamp_found};
    #[pymodule_export]
    use crate::functions::{check_key, checksum, digest_values, seal, stamp_after, unseal};
    #[pymodule_export]
    use crate::given::Given;
    #[pymodule_export]
    use crate::hasher::Hasher;
    #[pymodule_export]
    use crate::inventory::{Correction, Merge, Piece, Walk};
    #[pymodule_export]
    use crate::page::Page;
    #[pymodule_export]
    use crate::segment::{Segment, newest_digest};
    use kvsync_core::{Kind, envelope};

    #[pymodule_export]
    const FORMAT_VERSION: u8 = envelope::VERSION;
    #[pymodule_export]
    const DEBUG_BUILD: bool = cfg!(debug_assertions);
    #[pymodule_export]
    const TOMBSTONE: u8 = kvsync_core::TOMBSTONE;
    #[pymodule_export]
    const DECISION: u8 = kvsync_core::DECISION;
    #[pymodule_export]
    const INEXACT: u8 = kvsync_core::INEXACT;
    #[pymodule_export]
    const KIND_SEGMENT: u8 = Kind::Segment as u8;
    #[pymodule_export]
    const KIND_MANIFEST: u8 = Kind::Manifest as u8;
    #[pymodule_export]
    const KIND_LEASE: u8 = Kind::Lease as u8;
    #[pymodule_export]
    const KIND_INVENTORY: u8 = Kind::Inventory as u8;
    #[pymodule_export]
    const KIND_LOST: u8 = Kind::Lost as u8;
    #[pymodule_export]
    const KIND_PIECE: u8 = Kind::Piece as u8;
    #[pymodule_export]
    const KIND_DIRECTORY: u8 = Kind::Directory as u8;
}
