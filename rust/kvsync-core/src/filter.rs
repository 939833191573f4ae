//! Filters: which keys a run leaves out, by patterns in the gitignore syntax.

use crate::glob::Pattern;

/// Patterns that say which keys to include and which to leave out.
///
/// A key is a path whose names are separated by slashes. Of several patterns the last one that matches counts, and what
/// lies in a directory that is matched is matched, too.
///
/// ```
/// use kvsync_core::Filter;
///
/// let filter = Filter::new(&["docs/"], &["*.tmp", "!keep.tmp"]);
/// let keys = ["docs/a.md", "docs/b.tmp", "docs/keep.tmp", "src/a.md"];
/// assert!(filter.excluded(keys).eq([1, 3]));
/// ```
#[derive(Debug, Clone)]
pub struct Filter {
    include: Patterns,
    exclude: Patterns,
}

/// A list of patterns, and those of them that may match a key, not only a directory.
#[derive(Debug, Clone)]
struct Patterns {
    all: Vec<Pattern>,
    of_keys: Vec<Pattern>,
}

impl Patterns {
    fn parse(lines: &[&str]) -> Self {
        let all: Vec<_> = lines.iter().filter_map(|line| Pattern::parse(line)).collect();
        let of_keys = all.iter().filter(|pattern| !pattern.directory).cloned().collect();
        Self { all, of_keys }
    }
}

impl Filter {
    /// Parses both lists; without patterns to `include`, all keys are.
    #[must_use]
    pub fn new(include: &[&str], exclude: &[&str]) -> Self {
        Self {
            include: Patterns::parse(include),
            exclude: Patterns::parse(exclude),
        }
    }

    /// The positions of the keys that are left out. It is faster where keys of one directory follow each other.
    pub fn excluded<'a>(&'a self, keys: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = usize> {
        let mut include = Matching::new(&self.include);
        let mut exclude = Matching::new(&self.exclude);
        keys.into_iter().enumerate().filter_map(move |(at, key)| {
            let passes = (self.include.all.is_empty() || include.matches(key)) && !exclude.matches(key);
            (!passes).then_some(at)
        })
    }
}

/// Patterns at work: what they say of the last directory is kept.
struct Matching<'a> {
    patterns: &'a Patterns,
    directory: Option<&'a str>,
    names: Vec<&'a str>,
    is_matched: bool,
}

impl<'a> Matching<'a> {
    fn new(patterns: &'a Patterns) -> Self {
        Self {
            patterns,
            directory: None,
            names: Vec::new(),
            is_matched: false,
        }
    }

    fn matches(&mut self, key: &'a str) -> bool {
        if self.patterns.all.is_empty() {
            return false;
        }
        let (directory, name) = key
            .rsplit_once('/')
            .map_or((None, key), |(path, name)| (Some(path), name));
        if self.directory != directory || self.names.is_empty() {
            self.names.clear();
            self.directory = directory;
            self.names
                .extend(directory.into_iter().flat_map(|path| path.split('/')));
            let depths = 1..=self.names.len();
            self.is_matched = depths
                .into_iter()
                .any(|depth| last_says(&self.patterns.all, &self.names[..depth], true));
        }
        if self.is_matched {
            return true;
        }
        self.names.push(name);
        let is_matched = last_says(&self.patterns.of_keys, &self.names, false);
        self.names.pop();
        is_matched
    }
}

/// What the last of some patterns says that matches a path.
fn last_says(patterns: &[Pattern], names: &[&str], is_directory: bool) -> bool {
    let found = patterns
        .iter()
        .rev()
        .find(|pattern| pattern.matches(names, is_directory));
    found.is_some_and(|pattern| !pattern.negated)
}
