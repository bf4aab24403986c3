//! Short stand-ins for keys, which may carry secrets, in logs and on pages.

/// A stand-in for a key: `#` and eight hexadecimal digits.
///
/// The same key has the same fingerprint in every process and release, so that logs can be compared. It keeps 32 bits of the key, too few to find
/// a secret by; it doesn't keep a key from being confirmed by someone who guesses it.
pub fn fingerprint(key: &str) -> String {
    format!("#{:08x}", mix(fnv1a(key.as_bytes())) >> 32)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads the last bytes' influence over all bits (the finalizer of splitmix64).
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_never_changes() {
        assert_eq!(fingerprint("vkey:abc"), "#db1d9e3d");
    }

    #[test]
    fn fingerprints_of_neighbours_differ() {
        let all: std::collections::HashSet<String> = (0..10_000).map(|id| fingerprint(&format!("provider:{id}"))).collect();
        assert!(all.len() > 9_990);
    }
}
