//! The members of an ordinary JSON object, found in one pass.
//!
//! Ordinary are objects as most publishers write them: on one line, and strings without escapes. For all else, and for what is wrong, there is `serde_json`, whose
//! word is law: what is found here, it finds, too.

/// Tells the names and the unparsed values of an object, quotes included; `None` if the text isn't an ordinary object. What was told by then
/// is of no use.
pub(crate) fn members<'a>(text: &'a str, depth: usize, mut tell: impl FnMut(&'a str, &'a str)) -> Option<()> {
    // Looks at all bytes, whatever it finds, so that it can look at many at once.
    if text.bytes().fold(false, |found, byte| found | is_extraordinary(byte)) {
        return None;
    }
    let mut scan = Scan { text, at: 0 };
    scan.space();
    scan.take(b'{')?;
    scan.list(b'}', |scan| {
        let name = scan.slice(Scan::string)?;
        scan.colon()?;
        let value = scan.slice(|scan| scan.value(depth))?;
        tell(&name[1..name.len() - 1], value);
        Some(())
    })?;
    scan.space();
    (scan.at == text.len()).then_some(())
}

/// Of an escape, or no part of a line.
fn is_extraordinary(byte: u8) -> bool {
    byte < b' ' || byte == b'\\'
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.is(byte).then_some(())
    }

    /// Takes this byte if it is next.
    fn is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    /// Takes bytes as long as they are of this kind; returns how many there were.
    fn run(&mut self, of: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|byte| !of(*byte)).unwrap_or(rest.len());
        self.at += length;
        length
    }

    fn space(&mut self) {
        while self.is(b' ') {}
    }

    fn colon(&mut self) -> Option<()> {
        self.space();
        self.take(b':')?;
        self.space();
        Some(())
    }

    /// What `part` goes over.
    fn slice(&mut self, part: impl FnOnce(&mut Self) -> Option<()>) -> Option<&'a str> {
        let start = self.at;
        part(self)?;
        self.text.get(start..self.at)
    }

    /// What stands between commas, up to the end.
    fn list(&mut self, end: u8, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.space();
        if self.is(end) {
            return Some(());
        }
        loop {
            element(self)?;
            self.space();
            if self.is(end) {
                return Some(());
            }
            self.take(b',')?;
            self.space();
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'[' => {
                self.at += 1;
                let depth = depth.checked_sub(1)?;
                self.list(b']', |scan| scan.value(depth))
            }
            b'{' => {
                self.at += 1;
                let depth = depth.checked_sub(1)?;
                self.list(b'}', |scan| {
                    scan.string()?;
                    scan.colon()?;
                    scan.value(depth)
                })
            }
            _ => None,
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        self.at += memchr::memchr(b'"', &self.text.as_bytes()[self.at..])? + 1;
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        self.is(b'-');
        if !self.is(b'0') {
            self.digits()?;
        }
        if self.is(b'.') {
            self.digits()?;
        }
        if self.is(b'e') || self.is(b'E') {
            let _ = self.is(b'-') || self.is(b'+');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        (self.run(|byte| byte.is_ascii_digit()) > 0).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let is = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        is.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::json::MAX_DEPTH;

    fn found(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        members(text, MAX_DEPTH, |name, value| found.push((name, value)))?;
        Some(found)
    }

    /// The same by `serde_json`.
    fn lawful(text: &str) -> Option<Vec<(&str, &str)>> {
        struct Members<'a>(Vec<(&'a str, &'a str)>);
        impl<'a> serde::Deserialize<'a> for Members<'a> {
            fn deserialize<D: serde::Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(Self(Vec::new()))
            }
        }
        impl<'a> serde::de::Visitor<'a> for Members<'a> {
            type Value = Self;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'a>>(mut self, mut map: A) -> Result<Self, A::Error> {
                while let Some((name, value)) = map.next_entry::<&str, &RawValue>()? {
                    self.0.push((name, value.get()));
                }
                Ok(self)
            }
        }
        serde_json::from_str::<Members<'_>>(text).ok().map(|members| members.0)
    }

    #[test]
    fn ordinary_objects_are_taken_apart() {
        let text = r#" { "a" : "x y", "b":[1, {"c": null}], "":-0.5e+7 ,"d":{} } "#;
        assert_eq!(found(text).unwrap(), [("a", "\"x y\""), ("b", r#"[1, {"c": null}]"#), ("", "-0.5e+7"), ("d", "{}")]);
        assert_eq!(found("{}").unwrap(), []);
        for other in [
            r#"{"a":"\n"}"#,
            r#"{"a":01}"#,
            r#"{"a":1,}"#,
            r#"{"a":1} x"#,
            r#"{"a":1.}"#,
            r#"{"a":tru"#,
            r#"{"a"#,
            "{\"a\":\n1}",
            "[]",
            "",
            "{\"a\":\"\n\"}",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(found(&deep(MAX_DEPTH)).is_some() && found(&deep(MAX_DEPTH + 1)).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_is_found_is_what_serde_json_finds(text in r#"\{(" ?[a-zé\\]{0,2}"|[\[\]{}:,]|-?[0-9]{1,2}|[.eE+-]|true|null|false|[ \n\t]|"[a]":1,?){0,12}\}?"#) {
            if let Some(found) = found(&text) {
                prop_assert_eq!(Some(found), lawful(&text));
            }
        }

        #[test]
        fn ordinary_json_is_found(name in "[a-zé_ ]{0,5}", number: f64, text in "[a-zé ]{0,5}", list: Vec<u8>) {
            let json = serde_json::json!({ name: text, "number": number, "list": list, "inner": { "a": [null, true, false, {}] } }).to_string();
            prop_assert_eq!(found(&json), lawful(&json));
            prop_assert!(found(&json).is_some());
        }
    }
}
