//! One pattern of the gitignore syntax.

/// A pattern, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// It takes back what earlier patterns match.
    pub(crate) negated: bool,
    /// It matches directories alone.
    pub(crate) directory: bool,
    /// It matches from the root on; otherwise the last name of a path alone.
    anchored: bool,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// Any number of directories.
    Directories,
    Name(Vec<Token>),
    Literal(String),
    /// What follows a star, if that is the only one: it is held against the end of a name.
    Suffix(String),
    Tail(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Char(char),
    One,
    Many,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Parses a line; `None` for a blank one, a comment, and one that can match nothing.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = trimmed(line.strip_suffix('\r').unwrap_or(line));
        if line.starts_with('#') {
            return None;
        }
        let (negated, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let (directory, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
        if line.is_empty() {
            return None;
        }
        let anchored = line.contains('/');
        let body = line.strip_prefix('/').unwrap_or(line);
        let parts = body
            .split('/')
            .map(|name| part(name, anchored))
            .collect::<Option<_>>()?;
        Some(Self {
            negated,
            directory,
            anchored,
            parts,
        })
    }

    /// Whether it matches a path, given by its names; all of them but the last are directories.
    pub(crate) fn matches(&self, names: &[&str], is_directory: bool) -> bool {
        if self.directory && !is_directory {
            return false;
        }
        if self.anchored {
            return match_parts(&self.parts, names);
        }
        match (self.parts.as_slice(), names.last()) {
            ([part], Some(name)) => part.matches(name),
            _ => false,
        }
    }
}

/// A line without trailing spaces, but for one that is escaped.
fn trimmed(line: &str) -> &str {
    let bare = line.trim_end_matches(' ');
    let escapes = bare.len() - bare.trim_end_matches('\\').len();
    if escapes % 2 == 1 && bare.len() < line.len() {
        &line[..=bare.len()]
    } else {
        bare
    }
}

fn part(name: &str, anchored: bool) -> Option<Part> {
    if anchored && name == "**" {
        return Some(Part::Directories);
    }
    let tokens = tokens(name)?;
    if let Some(text) = plain(&tokens) {
        return Some(Part::Literal(text));
    }
    Some(match tokens.strip_prefix(&[Token::Many]) {
        Some(tail) if !tail.contains(&Token::Many) => {
            plain(tail).map_or_else(|| Part::Tail(tail.to_vec()), Part::Suffix)
        }
        _ => Part::Name(tokens),
    })
}

/// The text that tokens stand for, if they match no other.
fn plain(tokens: &[Token]) -> Option<String> {
    let letters = tokens.iter().map(|token| match token {
        Token::Char(letter) => Some(*letter),
        _ => None,
    });
    letters.collect()
}

fn tokens(name: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = name.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '?' => tokens.push(Token::One),
            '*' if matches!(tokens.last(), Some(Token::Many)) => {}
            '*' => tokens.push(Token::Many),
            '\\' => tokens.push(Token::Char(rest.next()?)),
            '[' => tokens.push(class(&mut rest)?),
            _ => tokens.push(Token::Char(letter)),
        }
    }
    Some(tokens)
}

/// Reads what follows a bracket; `None` if it is not closed, since such a pattern matches nothing.
fn class(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let mut ahead = rest.clone();
    let negated = matches!(ahead.next(), Some('!' | '^'));
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class { negated, ranges }),
            '\\' => rest.next()?,
            letter => letter,
        };
        let mut ahead = rest.clone();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|letter| letter != ']') {
            rest.next();
            let last = match rest.next()? {
                '\\' => rest.next()?,
                letter => letter,
            };
            ranges.push((first, last));
        } else {
            ranges.push((first, first));
        }
    }
}

fn match_parts(parts: &[Part], names: &[&str]) -> bool {
    match parts.split_first() {
        None => names.is_empty(),
        Some((Part::Directories, [])) => !names.is_empty(),
        Some((Part::Directories, rest)) => (0..names.len()).any(|at| match_parts(rest, &names[at..])),
        Some((part, rest)) => names.split_first().is_some_and(|(name, below)| {
            // A pattern for each depth would be tried at each depth otherwise.
            (rest.len() <= below.len() || rest.iter().any(|part| matches!(part, Part::Directories)))
                && part.matches(name)
                && match_parts(rest, below)
        }),
    }
}

/// Whether tokens, each of which takes one letter, match the end of a name.
fn match_end(tokens: &[Token], name: &str) -> bool {
    let mut letters = name.chars().rev();
    tokens
        .iter()
        .rev()
        .all(|token| letters.next().is_some_and(|letter| token.takes(letter)))
}

/// Whether tokens match a whole name; of several stars only the last one is ever tried again.
fn match_name(tokens: &[Token], name: &str) -> bool {
    let (mut left, mut rest) = (tokens, name.chars());
    let mut again: Option<(&[Token], std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = rest.clone();
        match left.split_first() {
            Some((Token::Many, below)) => {
                left = below;
                again = Some((below, rest.clone()));
                continue;
            }
            Some((token, below)) if ahead.next().is_some_and(|letter| token.takes(letter)) => {
                left = below;
                rest = ahead;
                continue;
            }
            None if rest.as_str().is_empty() => return true,
            _ => {}
        }
        let Some((after, from)) = &mut again else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        left = after;
        rest = from.clone();
    }
}

impl Part {
    /// Whether it matches one name.
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Literal(text) => text == name,
            Self::Suffix(text) => name.ends_with(text.as_str()),
            Self::Tail(tokens) => match_end(tokens, name),
            Self::Name(tokens) => match_name(tokens, name),
            Self::Directories => false,
        }
    }
}

impl Token {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Char(own) => *own == letter,
            Self::One => true,
            Self::Many => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != *negated
            }
        }
    }
}
