//! Keys that name kvsync's own objects, in any spelling that some file system accepts.

use crate::error::{Error, Result};

const NAME: &str = "kvsync";

/// Refuse a key with a component that folds to `.kvsync`.
///
/// ```
/// use kvsync_core::{Error, check_key};
///
/// assert_eq!(check_key("notes/kvsync.txt"), Ok(()));
/// let key = ".KVsync./lease".to_owned();
/// assert_eq!(check_key(&key), Err(Error::ReservedKey { key }));
/// ```
///
/// # Errors
/// [`Error::ReservedKey`].
pub fn check_key(key: &str) -> Result<()> {
    if is_reserved(key) {
        return Err(Error::ReservedKey { key: key.into() });
    }
    Ok(())
}

/// Refuse a reserved key in what is about to be sent to the other side.
///
/// # Errors
/// [`Error::ForgedKey`].
pub(crate) fn check_sent(key: &[u8]) -> Result<()> {
    if is_harmless(key) {
        return Ok(());
    }
    let text = str::from_utf8(key).unwrap_or_default();
    if is_reserved(text) {
        return Err(Error::ForgedKey { key: text.into() });
    }
    Ok(())
}

/// Whether a key has a component, separated by `/` or `\`, that some file system takes for `.kvsync`.
///
/// Case is folded. Code points that file systems ignore, trailing dots, spaces and stream names are left out. The
/// short name `KVSYNC~1` counts as well.
///
/// ```
/// use kvsync_core::is_reserved;
///
/// assert!(is_reserved("notes/KVSYNC~1") && !is_reserved("notes/kvsync~"));
/// ```
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    !is_harmless(key.as_bytes()) && key.split(['/', '\\']).any(is_reserved_component)
}

/// Whether these bytes, of one key or of several in a row, certainly hold no reserved key.
pub(crate) fn is_harmless(bytes: &[u8]) -> bool {
    // No branch for each byte, so that this is compiled to vector instructions.
    let mark = |found, byte: &u8| found | u8::from(*byte == b'.') | u8::from(*byte == b'~');
    bytes.iter().fold(0, mark) == 0
}

fn is_reserved_component(component: &str) -> bool {
    // A reserved component begins with a dot, a k, the Kelvin sign, or an ignored code point.
    let begins = |first| matches!(first, b'.' | b'k' | b'K' | 0xe1 | 0xe2 | 0xef | 0xc2 | 0xcd);
    if !component.bytes().next().is_some_and(begins) {
        return false;
    }
    let mut letters = component.chars().filter(|letter| !is_ignored(*letter));
    let mut letters = letters.by_ref().map(fold).peekable();
    let dotted = letters.next_if_eq(&'.').is_some();
    if NAME.chars().any(|letter| letters.next() != Some(letter)) {
        return false;
    }
    let short = !dotted && letters.next() == Some('~') && letters.next().is_some_and(|c| c.is_ascii_digit());
    (dotted || short) && is_dropped(letters)
}

/// Whether NTFS drops the rest of a component: dots and spaces, or a stream's name.
fn is_dropped(rest: impl Iterator<Item = char>) -> bool {
    let mut rest = rest.skip_while(|letter| matches!(letter, '.' | ' '));
    matches!(rest.next(), None | Some(':'))
}

fn fold(letter: char) -> char {
    match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        _ => letter.to_ascii_lowercase(),
    }
}

/// Code points without width that HFS+, by Git's list, ignores in names, and similar ones.
const fn is_ignored(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{34f}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
    )
}
