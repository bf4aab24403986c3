//! When two names of attributes are the same name: publishers write `KeyHash`, `key_hash`, `keyHash` or `key-hash`.

/// Whether two names are equal without the case of ASCII letters, `_` and `-`.
#[inline]
pub fn same_name(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    !end_differently(a, b) && same(a, b)
}

/// Names of one event often begin alike, but seldom end alike.
#[inline]
fn end_differently(a: &[u8], b: &[u8]) -> bool {
    let is_letter = |byte: u8| !matches!(byte, b'_' | b'-');
    matches!((a.last(), b.last()), (Some(a), Some(b)) if !a.eq_ignore_ascii_case(b) && is_letter(*a) && is_letter(*b))
}

fn same(mut a: &[u8], mut b: &[u8]) -> bool {
    loop {
        match (a, b) {
            ([x, after_x @ ..], [y, after_y @ ..]) if x.eq_ignore_ascii_case(y) => (a, b) = (after_x, after_y),
            ([b'_' | b'-', after @ ..], _) => a = after,
            (_, [b'_' | b'-', after @ ..]) => b = after,
            _ => return a.is_empty() && b.is_empty(),
        }
    }
}

/// A name in the one spelling that all its spellings share.
pub fn canonical(name: &str) -> String {
    name.chars().filter(|char| !matches!(char, '_' | '-')).map(|char| char.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_the_same() {
        for spelling in ["key_hash", "KeyHash", "keyHash", "key-hash", "KEY_HASH", "_keyhash_", "k_e_y_hash"] {
            assert!(same_name(spelling, "key_hash"), "{spelling}");
            assert_eq!(canonical(spelling), "keyhash");
        }
    }

    #[test]
    fn other_names_are_not() {
        for other in ["key_hashes", "key_has", "", "key hash", "key.hash", "kéy_hash"] {
            assert!(!same_name(other, "key_hash"), "{other}");
        }
        assert!(same_name("", "_-"));
    }

    proptest::proptest! {
        #[test]
        fn names_are_the_same_if_their_canonical_spellings_are(a in "[aAbB_-]{0,5}", b in "[aAbB_-]{0,5}") {
            proptest::prop_assert_eq!(same_name(&a, &b), canonical(&a) == canonical(&b));
        }
    }
}
