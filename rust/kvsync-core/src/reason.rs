//! Why something is refused, as data.

use std::fmt;

/// Why an object is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The object is shorter than its envelope.
    EnvelopeTooShort,
    /// The object does not begin with the magic.
    NotAnObject,
    /// The checksum does not match the bytes.
    Checksum,
    /// The format version is 0.
    VersionZero,
    /// The object is intact, but of another kind.
    OtherKind,
    /// The envelope has unknown flags.
    UnknownEnvelopeFlags,
    /// The length of the body is not the stored length.
    LengthMismatch,
    /// The body would be longer than the compression ratio allows.
    RatioExceeded,
    /// The body would not fit into memory.
    OutOfMemory,
    /// The stored body is not exactly one zstd frame.
    NotOneFrame,
    /// The zstd frame does not decompress to the length of the body.
    BadFrame,
    /// The object is intact, but has another name.
    OtherName,
    /// A msgpack type stands where another is expected.
    Expected(MsgpackType),
    /// A map has more or fewer entries than the format says.
    MapEntries,
    /// A map key is unknown, missing or misplaced.
    MapKey,
    /// An integer is negative.
    NegativeInteger,
    /// The body ends in the middle of something.
    EndsEarly,
    /// A length passes the end of the body.
    LengthPassesEnd,
    /// The count is more than the rest of the body can hold.
    CountPassesEnd,
    /// Bytes follow the body.
    TrailingBytes,
    /// A column does not have one number or item for each entry.
    ColumnLength,
    /// A column is wider than its greatest number needs.
    ColumnTooWide,
    /// The origins do not ascend, or they or their maxima contradict the count.
    OriginsContradictCount,
    /// An origin is out of range, or the column of origins is too wide.
    OriginOutOfRange,
    /// A segment without changes has a stamp base.
    StampBaseOfNothing,
    /// The stamps do not begin at the stamp base, or their column is too wide.
    StampsContradictBase,
    /// The origins or maxima contradict the stamps.
    MaximaContradictStamps,
    /// A change has an unknown flag.
    UnknownFlag,
    /// A tombstone has a size or a digest.
    TombstoneWithValue,
    /// A tombstone has an expiry.
    TombstoneExpires,
    /// The sizes of strings do not add up to their bytes.
    SizesDoNotAddUp,
    /// A key is not valid UTF-8.
    KeyNotUtf8,
    /// A key begins in the middle of a character.
    KeyInsideCharacter,
    /// Keys do not strictly ascend.
    KeysDoNotAscend,
    /// An entry has an unknown state, or a token or digest that its state does not have.
    EntryContradictsState,
    /// Bytes of a head that have to be zero are not.
    HeadNotZero,
    /// A number of changes, a pack, an offset or a length of a block or page is out of range.
    PartOutOfRange,
    /// A block or page is sound, but not the one that its directory describes.
    OtherPart,
    /// The target size of blocks is out of range.
    TargetOutOfRange,
    /// The depth of a directory is neither 1 nor 2.
    DepthOutOfRange,
    /// The names of packs do not ascend, or are too long or too many.
    BadPacks,
    /// The sums over the changes of a block are not those that its directory says.
    OtherSums,
    /// A block begins or ends elsewhere than where its keys say.
    WrongCut,
}

/// A type that msgpack knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MsgpackType {
    /// A map.
    Map,
    /// A string.
    Str,
    /// A byte string.
    Bin,
    /// An array.
    Array,
    /// An unsigned integer.
    Uint,
}

/// What is wrong with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeFault {
    /// It has an unknown flag.
    UnknownFlag,
    /// It is a tombstone with a size or digest.
    TombstoneWithValue,
    /// It is a tombstone that expires.
    TombstoneExpires,
}

/// What is wrong with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArgumentFault {
    /// The number names no kind of index object.
    UnknownKind,
    /// A flag is unknown, or not the caller's to set.
    UnknownFlag,
    /// A span of stamps ends before it begins.
    SpanBackwards,
    /// A batch may have no change.
    EmptyBatch,
    /// Keys and values differ in length.
    KeysAndValues,
    /// Keys and expiries differ in length.
    KeysAndExpiries,
    /// Keys and tokens differ in length.
    KeysAndTokens,
    /// Keys, tokens and digests differ in length.
    KeysTokensAndDigests,
    /// Values and puts differ in length.
    ValuesAndPuts,
    /// The number names no run of an inventory.
    NoSuchRun,
    /// The target size of blocks is out of range.
    TargetOutOfRange,
    /// A pack is begun before all of the one before was taken, or for the second time.
    PackNotFresh,
    /// What is fed is not what was needed.
    RangesAndNeeds,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::EnvelopeTooShort => "shorter than its envelope",
            Self::NotAnObject => "not an index object",
            Self::Checksum => "the checksum does not match",
            Self::VersionZero => "format version 0",
            Self::OtherKind => "an object of another kind",
            Self::UnknownEnvelopeFlags => "unknown flags in the envelope",
            Self::LengthMismatch => "the length does not match",
            Self::RatioExceeded => "the length exceeds the compression ratio",
            Self::OutOfMemory => "the length exceeds the memory",
            Self::NotOneFrame => "not exactly one zstd frame",
            Self::BadFrame => "the zstd frame does not decompress",
            Self::OtherName => "an object of another name",
            Self::Expected(kind) => return write!(out, "not {kind}"),
            Self::MapEntries => "wrong number of map entries",
            Self::MapKey => "unknown, missing or misplaced map key",
            Self::NegativeInteger => "negative integer",
            Self::EndsEarly => "ends too early",
            Self::LengthPassesEnd => "a length passes the end",
            Self::CountPassesEnd => "the count passes the end",
            Self::TrailingBytes => "trailing bytes",
            Self::ColumnLength => "a column's length does not fit the count",
            Self::ColumnTooWide => "a column is wider than necessary",
            Self::OriginsContradictCount => "origins or max contradict the count",
            Self::OriginOutOfRange => "an origin is out of range, or its column too wide",
            Self::StampBaseOfNothing => "a stamp_base without changes",
            Self::StampsContradictBase => "the stamps do not fit stamp_base or their width",
            Self::MaximaContradictStamps => "origins or max contradict the stamps",
            Self::UnknownFlag => "unknown flag",
            Self::TombstoneWithValue => "a tombstone has a size or digest",
            Self::TombstoneExpires => "a tombstone expires",
            Self::SizesDoNotAddUp => "the sizes do not add up",
            Self::KeyNotUtf8 => "a key is not valid UTF-8",
            Self::KeyInsideCharacter => "a key begins inside a character",
            Self::KeysDoNotAscend => "the keys do not ascend",
            Self::EntryContradictsState => "an entry does not fit its state",
            Self::HeadNotZero => "unknown bytes in the head",
            Self::PartOutOfRange => "a block's count, pack, offset or length is out of range",
            Self::OtherPart => "not the block or page that the directory describes",
            Self::TargetOutOfRange => "the target size of blocks is out of range",
            Self::DepthOutOfRange => "the depth is neither 1 nor 2",
            Self::BadPacks => "the names of packs do not ascend, or are too long or too many",
            Self::OtherSums => "the sums of a block are not those that the directory says",
            Self::WrongCut => "a block is not cut where its keys say",
        })
    }
}

impl fmt::Display for MsgpackType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Map => "a map",
            Self::Str => "a str",
            Self::Bin => "a bin",
            Self::Array => "an array",
            Self::Uint => "an unsigned integer",
        })
    }
}

impl fmt::Display for ChangeFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::UnknownFlag => "it has an unknown flag",
            Self::TombstoneWithValue => "a delete has no size and no digest",
            Self::TombstoneExpires => "a delete never expires",
        })
    }
}

impl fmt::Display for ArgumentFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::UnknownKind => "unknown kind of index object",
            Self::UnknownFlag => "unknown flag: only DECISION may be set",
            Self::SpanBackwards => "a range of stamps ends before it begins",
            Self::EmptyBatch => "a batch needs room for at least one change",
            Self::KeysAndValues => "keys and values differ in length",
            Self::KeysAndExpiries => "keys and expiries differ in length",
            Self::KeysAndTokens => "keys and tokens differ in length",
            Self::KeysTokensAndDigests => "keys, tokens and digests differ in length",
            Self::ValuesAndPuts => "values and puts differ in length",
            Self::NoSuchRun => "there is no such run",
            Self::TargetOutOfRange => "a block's target size has to be 64 bytes to 1 MiB",
            Self::PackNotFresh => "a pack needs a fresh name, and all bytes of the one before taken",
            Self::RangesAndNeeds => "the ranges differ from the needs in number or length",
        })
    }
}
