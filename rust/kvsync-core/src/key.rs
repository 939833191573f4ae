//! Keys that could reach kvsync's own objects, in any file system's way of writing them.

use crate::error::{Error, Result};

const NAME: &str = "kvsync";

/// Refuse a key with a component that folds to `.kvsync`.
///
/// # Errors
/// [`Error::ReservedKey`].
pub fn check(key: &str) -> Result<()> {
    if is_reserved(key) {
        return Err(Error::ReservedKey { key: key.into() });
    }
    Ok(())
}

/// Refuse a key that must not go out.
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

/// Whether a key has a component, cut at `/` or `\`, that some file system takes for `.kvsync`.
///
/// Case is folded, code points that file systems ignore are left out, trailing dots, spaces and
/// stream names are dropped, and the short name `KVSYNC~1` counts as well.
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    !is_harmless(key.as_bytes()) && key.split(['/', '\\']).any(is_reserved_component)
}

/// Whether no key in these bytes, of one key or of many behind one another, can be reserved.
pub(crate) fn is_harmless(bytes: &[u8]) -> bool {
    // Without a branch a byte, so that it is compiled to vector instructions.
    let mark = |found, byte: &u8| found | u8::from(*byte == b'.') | u8::from(*byte == b'~');
    bytes.iter().fold(0, mark) == 0
}

fn is_reserved_component(component: &str) -> bool {
    // Only these can begin one: the dot, a k or the Kelvin sign, or an ignored code point.
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

/// Whether the rest of a component is what NTFS drops: dots and spaces, or a stream's name.
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

/// Code points without width, which HFS+ (and Git's list for it) ignores in names, and their like.
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
