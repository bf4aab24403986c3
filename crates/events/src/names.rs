//! When two names of attributes are the same name: publishers write `KeyHash`, `key_hash`, `keyHash` or `key-hash`.

/// Whether two names are equal without the case of ASCII letters, `_` and `-`.
pub fn same_name(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (letters(a), letters(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (left, right) if left == right => {}
            _ => return false,
        }
    }
}

/// A name in the one spelling that all its spellings share.
pub fn canonical(name: &str) -> String {
    name.chars().filter(|char| !matches!(char, '_' | '-')).map(|char| char.to_ascii_lowercase()).collect()
}

fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase())
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
}
