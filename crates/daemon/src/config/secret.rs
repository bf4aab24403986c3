//! Keeping secrets out of everything that is printed: URLs, bad values, and the lines of the file under a caret.
//!
//! A masked text has the length of the original, so that positions in it stay right.

use std::ops::Range;

const WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "auth"];

/// Whether the value of a key of this name must not be shown.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

/// Whether the value of a key of this name may contain a secret, so that it isn't repeated in a message about a mistake in it.
pub fn may_hold_secret(key: &str) -> bool {
    is_secret(key) || key.to_ascii_lowercase().contains("url")
}

/// The URL with the password (if a name stands before it: only that) and secret parameters replaced by `***`.
pub fn hide_userinfo(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let mut shown = match userinfo(url) {
        None => url.to_owned(),
        Some(range) => {
            let name = url[range.clone()].split_once(':').map_or("", |(name, _)| name);
            let colon = if name.is_empty() { "" } else { ":" };
            format!("{}{name}{colon}***{}", &url[..range.start], &url[range.end..])
        }
    };
    if let Some(query) = query {
        shown.push('?');
        shown.push_str(&query.split('&').map(hide_parameter).collect::<Vec<_>>().join("&"));
    }
    shown
}

fn hide_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => parameter.to_owned(),
    }
}

/// Where the part between `://` and the last `@` stands.
pub fn userinfo(text: &str) -> Option<Range<usize>> {
    let start = text.find("://")? + 3;
    let end = start + text[start..].rfind('@')?;
    Some(start..end)
}

/// Replaces every byte of a range by `*`.
pub fn mask(text: &mut String, range: Range<usize>) {
    let stars = "*".repeat(range.len());
    text.replace_range(range, &stars);
}

/// Masks what a line of a broken file may give away: the value of a secret key, and what stands in a URL before the host.
pub fn mask_lines(text: &str) -> String {
    let mut masked = text.to_owned();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\r', '\n']);
        for range in secrets_of_line(content) {
            mask(&mut masked, start + range.start..start + range.end);
        }
        start += line.len();
    }
    masked
}

fn secrets_of_line(line: &str) -> Vec<Range<usize>> {
    let first = WORDS.iter().filter_map(|word| line.to_ascii_lowercase().find(word)).min();
    let value = first.and_then(|word| line[word..].find('=').map(|equals| word + equals + 1..line.len()));
    value.into_iter().chain(userinfo(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_password_and_nothing_else() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:hunter2@h:6379", "redis://***@h:6379"),
            ("redis://me:hunter2@h:6379/1", "redis://me:***@h:6379/1"),
            ("rediss://me:p@ss/w:rd@h", "rediss://me:***@h"),
            ("redis://hunter2@h", "redis://***@h"),
            ("redis-sentinel://h?master=m&sentinelPassword=hunter2", "redis-sentinel://h?master=m&sentinelPassword=***"),
        ] {
            assert_eq!(hide_userinfo(url), shown);
        }
    }

    #[test]
    fn masked_lines_keep_their_length_and_lose_their_secrets() {
        let text = "a = 1\r\nredis_password = \"hunter2\nurl = \"redis://x:hunter2@h\nmain = { Token = 'hunter2', b = 2 }\n";
        let masked = mask_lines(text);
        assert_eq!(masked.len(), text.len());
        assert!(!masked.contains("hunter2"), "{masked}");
        assert!(masked.starts_with("a = 1\r\nredis_password =***"), "{masked}");
        assert!(masked.contains("@h\n"), "{masked}");
    }
}
