//! Redis' globs: which keys a pattern means, exactly as `KEYS`, `SCAN MATCH` and `PSUBSCRIBE` of Redis 7.0 understand it.
//!
//! A pattern is compiled once and then matched in time proportional to pattern × key at worst: hostile patterns can't blow it up. Also how to
//! put a text into a pattern so that it means only itself, and which text every match must begin with.
//!
//! Oddities of Redis that are kept on purpose: a class may lack its `]`; in `[a-]` the `]` ends a range and not the class; a range may be written
//! backwards; bytes from 0x80 up are negative in ranges (Redis compares them as C's `char`, signed but on ARM); nothing but the empty pattern matches the
//! empty text. (`KEYS *` and `SCAN … MATCH *` list the empty key all the same: of that one pattern Redis doesn't ask what it matches.)

use std::borrow::Cow;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Glob {
    tokens: Vec<Token>,
    fold: bool,
}

#[derive(Debug, Clone)]
enum Token {
    /// `*`: any bytes, also none.
    Many,
    /// `?`: any one byte.
    One,
    Byte(u8),
    /// `[…]`: one byte of a set.
    Class(Box<[bool; 256]>),
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Many => false,
            Self::One => true,
            Self::Byte(own) => *own == byte,
            Self::Class(set) => set[usize::from(byte)],
        }
    }
}

impl Glob {
    /// Compiles a pattern. Every text is one.
    pub fn new(pattern: &str) -> Self {
        Self { tokens: compile(pattern.as_bytes(), false), fold: false }
    }

    /// Compiles a pattern that takes ASCII letters of either case as equal.
    pub fn ignoring_case(pattern: &str) -> Self {
        Self { tokens: compile(pattern.as_bytes(), true), fold: true }
    }

    /// Whether the pattern means this key.
    pub fn matches(&self, key: &[u8]) -> bool {
        if key.is_empty() {
            return self.tokens.is_empty();
        }
        let (mut token, mut at) = (0, 0);
        // Where to go on after a mismatch: behind the newest `*`, which then takes one byte more. Older ones need not be tried again: what the
        // newest can't reach from its first position it can't reach from a later one either.
        let mut retry = None;
        while at < key.len() {
            match self.tokens.get(token) {
                Some(Token::Many) => {
                    token += 1;
                    retry = Some((token, at));
                }
                Some(one) if one.accepts(self.fold(key[at])) => {
                    token += 1;
                    at += 1;
                }
                _ => match &mut retry {
                    Some((behind, from)) => {
                        *from += 1;
                        (token, at) = (*behind, *from);
                    }
                    None => return false,
                },
            }
        }
        self.tokens[token..].iter().all(|left| matches!(left, Token::Many))
    }

    fn fold(&self, byte: u8) -> u8 {
        if self.fold { byte.to_ascii_lowercase() } else { byte }
    }
}

fn compile(pattern: &[u8], fold: bool) -> Vec<Token> {
    let byte = |byte: u8| Token::Byte(if fold { byte.to_ascii_lowercase() } else { byte });
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, behind) {
            (b'*', _) => {
                if !matches!(tokens.last(), Some(Token::Many)) {
                    tokens.push(Token::Many);
                }
            }
            (b'?', _) => tokens.push(Token::One),
            (b'[', _) => tokens.push(class(&mut rest, fold)),
            (b'\\', [escaped, behind @ ..]) => {
                rest = behind;
                tokens.push(byte(*escaped));
            }
            _ => tokens.push(byte(*first)),
        }
    }
    tokens
}

/// Reads a class behind its `[`, up to and with its `]`, or to the end of the pattern.
fn class(rest: &mut &[u8], fold: bool) -> Token {
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = &rest[1..];
    }
    let mut set = Box::new([false; 256]);
    loop {
        *rest = match *rest {
            [b'\\', escaped, behind @ ..] => {
                set[usize::from(*escaped)] = true;
                behind
            }
            [b']', behind @ ..] => {
                *rest = behind;
                break;
            }
            [] => break,
            [start, b'-', end, behind @ ..] => {
                add_range(&mut set, *start, *end, fold);
                behind
            }
            [single, behind @ ..] => {
                set[usize::from(if fold { single.to_ascii_lowercase() } else { *single })] = true;
                behind
            }
        };
    }
    if negated {
        set.iter_mut().for_each(|member| *member = !*member);
    }
    Token::Class(set)
}

/// Adds the bytes between two others, which may stand in either order, compared as signed numbers.
fn add_range(set: &mut [bool; 256], start: u8, end: u8, fold: bool) {
    let signed = u8::cast_signed;
    let (low, high) = if signed(start) <= signed(end) { (start, end) } else { (end, start) };
    // As in Redis, the ends are folded after they were put in order.
    let (low, high) = if fold { (low.to_ascii_lowercase(), high.to_ascii_lowercase()) } else { (low, high) };
    for byte in (0..=u8::MAX).filter(|byte| (signed(low)..=signed(high)).contains(&signed(*byte))) {
        set[usize::from(byte)] = true;
    }
}

/// The text before the first unescaped `*`, `?` or `[`, with its escapes taken off: every key that the pattern matches begins with it.
pub fn literal_prefix(pattern: &str) -> Cow<'_, str> {
    let end = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    if !pattern[end..].starts_with('\\') {
        return Cow::Borrowed(&pattern[..end]);
    }
    let mut prefix = pattern[..end].to_owned();
    let mut rest = pattern[end..].chars();
    while let Some(char) = rest.next() {
        match char {
            '*' | '?' | '[' => break,
            '\\' => prefix.push(rest.next().unwrap_or('\\')),
            char => prefix.push(char),
        }
    }
    Cow::Owned(prefix)
}

/// How many unescaped `*`, `?` and classes a pattern has; neighbouring `*` count as one.
pub fn wildcards(pattern: &str) -> usize {
    compile(pattern.as_bytes(), false).iter().filter(|token| !matches!(token, Token::Byte(_))).count()
}

/// Appends a text to a pattern so that it means only itself.
///
/// Outside a class only: a text inside `[…]` could still make a range or negate the class.
pub fn escape(text: &str, pattern: &mut String) {
    pattern.reserve(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn holds(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern);
        for key in yes {
            assert!(glob.matches(key.as_bytes()), "{pattern:?} should match {key:?}");
        }
        for key in no {
            assert!(!glob.matches(key.as_bytes()), "{pattern:?} should not match {key:?}");
        }
    }

    #[test]
    fn wildcards_mean_what_the_manual_says() {
        holds("h?llo", &["hello", "hallo"], &["hllo", "heello", "Hello"]);
        holds("h*llo", &["hllo", "heeeello"], &["hell"]);
        holds("h[ae]llo", &["hello", "hallo"], &["hillo"]);
        holds("h[^e]llo", &["hallo", "hbllo"], &["hello"]);
        holds("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]);
        holds(r"h\?llo", &["h?llo"], &["hello"]);
        holds("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]);
    }

    #[test]
    fn oddities_of_redis_are_kept() {
        holds("*", &["x"], &[""]);
        holds("", &[""], &["x"]);
        holds("[", &[], &["[", "x"]);
        holds("[^", &["x", "["], &["xy"]);
        holds("[a-]", &["^", "a", "]", "`"], &["-", "b"]);
        holds("[b-a]", &["a", "b"], &["c"]);
        holds(r"a\", &[r"a\"], &["a"]);
        holds(r"[\]]", &["]"], &["\\"]);
        holds("[]", &[], &["]", "x"]);
    }

    #[test]
    fn case_is_ignored_on_request_only() {
        assert!(Glob::ignoring_case("Auth*[X-Z]").matches(b"aUTH:y"));
        assert!(!Glob::new("Auth*").matches(b"auth"));
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!Glob::new(&pattern).matches("a".repeat(2000).as_bytes()));
    }

    #[test]
    fn the_literal_prefix_is_what_every_match_begins_with() {
        for (pattern, prefix) in
            [("a:*", "a:"), ("a", "a"), ("", ""), (r"a\*b?c", "a*b"), (r"a\", r"a\"), ("a[b]", "a"), (r"\[é\]*", "[é]"), ("*a", "")]
        {
            assert_eq!(literal_prefix(pattern), prefix, "{pattern:?}");
        }
    }

    #[test]
    fn wildcards_are_counted_unescaped() {
        assert_eq!(wildcards(r"a:**:?:[bc]:\*:x"), 3);
    }

    #[test]
    fn an_escaped_text_means_only_itself() {
        let mut pattern = "k:".to_owned();
        escape(r"a*b?[c]\d-é", &mut pattern);
        assert_eq!(pattern, r"k:a\*b\?\[c\]\\d-é");
        assert!(Glob::new(&pattern).matches(r"k:a*b?[c]\d-é".as_bytes()));
    }
}
