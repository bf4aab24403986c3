//! Keeping secrets out of everything that is printed: URLs, bad values, and the lines of the file under a caret.
//!
//! A masked text has the length of the original, so that positions in it stay right.

use std::ops::Range;

const WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "auth"];

/// Whether the value of a key of this name must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

/// Whether the value of a key of this name may contain a secret, so that it isn't repeated in a message about a mistake in it.
pub(super) fn may_hold_secret(key: &str) -> bool {
    is_secret(key) || key.to_ascii_lowercase().contains("url")
}

/// The URL with the password (if a name stands before it: only that) and secret parameters replaced by `***`.
pub(super) fn hide_userinfo(url: &str) -> String {
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
pub(super) fn userinfo(text: &str) -> Option<Range<usize>> {
    let start = text.find("://")? + 3;
    let end = start + text[start..].rfind('@')?;
    Some(start..end)
}

/// Replaces every byte of a range by `*`.
pub(super) fn mask(text: &mut String, range: Range<usize>) {
    let stars = "*".repeat(range.len());
    text.replace_range(range, &stars);
}

/// Masks a whole TOML value so that what is left is a TOML value, too. What is shorter than four characters is no secret.
pub(super) fn mask_value(text: &mut String, range: Range<usize>) {
    let value = &text[range.clone()];
    if value.len() < 4 {
        return;
    }
    let masked = if value.starts_with("\"\"\"") || value.starts_with("'''") {
        let inner = 3..value.len().saturating_sub(3).max(3);
        let stars = value[inner.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect::<String>();
        format!("{}{stars}{}", &value[..inner.start], &value[inner.end..])
    } else {
        format!("\"{}\"", "*".repeat(value.len().saturating_sub(2)))
    };
    text.replace_range(range, &masked);
}

/// Masks what a line of a broken file may give away: the value of a secret key, and what stands in a URL before the host.
pub(super) fn mask_lines(text: &str) -> String {
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
    fn a_masked_value_is_still_a_value() {
        for value in
            ["\"hunter2\"", "'hunter2'", "\"\"\"hun\nter2\"\"\"", "'''hunter2'''", "12345", "42", "7", "true", "\"\"", "\"\\u00e9\""]
        {
            let mut text = format!("a = {value}\nb = 1\n");
            let length = text.len();
            mask_value(&mut text, 4..4 + value.len());
            let table = text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{value}: {text}: {error}"));
            assert!(table.contains_key("b") && text.len() == length && !text.contains("ter2"), "{value}: {text}");
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
