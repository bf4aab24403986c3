//! What may stand under a key of the shared cache, as bytes: a value, the knowledge that there is none, or a fence.
//!
//! A value stands there as it was encoded, so that other programs can read and write it. Only what no JSON text begins with, a zero byte, begins
//! everything else; a value that itself begins so is marked as one. So no value can be taken for a fence.
//!
//! | bytes | |
//! |---|---|
//! | anything that doesn't begin with a zero byte | a value |
//! | `0 R` value | a value that begins with a zero byte |
//! | `0 Z` length, LZ4 block | a compressed value |
//! | `0 N` | there is no such thing |
//! | `0 F` token | a fence of readers: somebody fetches the value |
//! | `0 H` token, any of the above but a fence | the same, and the old value is good until then |
//! | `0 W` token | a fence of a writer: the value is being changed |
//! | `0 B` token, any of the above but a fence | the same, and the new value is this |

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Begins whatever is not a plain value.
const MARK: u8 = 0;
/// Tag and token.
const FENCE: usize = 18;
/// LZ4 can't blow anything up by more than this: a length beyond it is no length.
const LZ4_RATIO: usize = 255;

/// Why a fence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A reader missed the value and fetches it.
    Fetch = b'F' as isize,
    /// A reader fetches it anew before it expires.
    Refresh = b'H' as isize,
    /// A writer changes what the value comes from.
    Write = b'W' as isize,
    /// The same, later: the value is newer than what it comes from.
    WriteLater = b'B' as isize,
}

/// A random token under a key. Whatever deletes or replaces the key voids it, and a voided one never comes back.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fence(Bytes);

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({})", char::from(self.0[1]))
    }
}

impl Fence {
    pub(crate) fn new(purpose: Purpose) -> Self {
        let mut bytes = BytesMut::with_capacity(FENCE);
        bytes.put_slice(&[MARK, purpose as u8]);
        bytes.put_slice(&rand::random::<[u8; FENCE - 2]>());
        Self(bytes.freeze())
    }

    /// As it stands under the key, without what it may hold.
    pub(crate) fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The fence with a value in it.
    pub(crate) fn holding(&self, stored: &Bytes) -> Bytes {
        [&self.0[..], stored].concat().into()
    }
}

/// What was found under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A value, as it was encoded.
    Value(Bytes),
    /// There is no such thing.
    Absent,
    /// A fence that every reader may fetch behind.
    Open(Fence),
    /// A writer's fence: what is read now may be old at once.
    Closed,
    /// Bytes of another form.
    Unreadable,
}

/// What was found, and whether somebody fetches it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) found: Found,
    /// A fence stands around the value.
    pub(crate) fenced: bool,
}

/// Reads what stands under a key.
pub(crate) fn read(stored: &Bytes) -> Look {
    match stored.get(..2) {
        Some([MARK, b'F' | b'W']) if stored.len() != FENCE => Look { found: Found::Unreadable, fenced: false },
        Some([MARK, b'F']) => Look { found: Found::Open(Fence(stored.clone())), fenced: true },
        Some([MARK, b'W']) => Look { found: Found::Closed, fenced: true },
        Some([MARK, b'H' | b'B']) if stored.len() >= FENCE => Look { found: unfenced(&stored.slice(FENCE..)), fenced: true },
        _ => Look { found: unfenced(stored), fenced: false },
    }
}

fn unfenced(stored: &Bytes) -> Found {
    match stored.get(..2) {
        Some([MARK, b'N']) if stored.len() == 2 => Found::Absent,
        Some([MARK, b'R']) => Found::Value(stored.slice(2..)),
        Some([MARK, b'Z']) => decompress(&stored[2..]).map_or(Found::Unreadable, Found::Value),
        _ if stored.first() == Some(&MARK) => Found::Unreadable,
        _ => Found::Value(stored.clone()),
    }
}

fn decompress(packed: &[u8]) -> Option<Bytes> {
    let (length, block) = packed.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= block.len().saturating_mul(LZ4_RATIO))?;
    lz4_flex::block::decompress(block, length).ok().map(Bytes::from)
}

/// What is to stand under a key for a value, or for none. One of more than `compress_above` bytes is compressed if that makes it smaller.
pub(crate) fn stored(value: Option<Bytes>, compress_above: Option<usize>) -> Bytes {
    let Some(value) = value else { return Bytes::from_static(&[MARK, b'N']) };
    if compress_above.is_some_and(|limit| value.len() > limit) {
        let packed = lz4_flex::block::compress_prepend_size(&value);
        if packed.len() + 2 < value.len() {
            return [&[MARK, b'Z'], &packed[..]].concat().into();
        }
    }
    if value.first() == Some(&MARK) { [&[MARK, b'R'], &value[..]].concat().into() } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(stored: &Bytes) -> Found {
        read(stored).found
    }

    #[test]
    fn plain_values_stand_as_other_programs_write_them() {
        for text in ["", "{}", "[1]", "\"a\"", "7"] {
            let value = Bytes::from_static(text.as_bytes());
            assert_eq!(stored(Some(value.clone()), None), value);
            assert_eq!(found(&value), Found::Value(value.clone()));
        }
    }

    #[test]
    fn fences_are_told_from_values_and_from_each_other() {
        let [fetch, refresh, write, later] = [Purpose::Fetch, Purpose::Refresh, Purpose::Write, Purpose::WriteLater].map(Fence::new);
        let value = Bytes::from_static(b"v");
        assert_eq!(found(&fetch.bytes()), Found::Open(fetch.clone()));
        assert_eq!(found(&write.bytes()), Found::Closed);
        for held in [refresh, later] {
            assert_eq!(read(&held.holding(&value)), Look { found: Found::Value(value.clone()), fenced: true });
            assert_eq!(found(&held.holding(&stored(None, None))), Found::Absent);
            assert_eq!(found(&held.holding(&fetch.bytes())), Found::Unreadable, "no fence in a fence");
        }
        assert_ne!(Fence::new(Purpose::Fetch), fetch);
    }

    #[test]
    fn rubbish_is_unreadable_and_takes_no_memory() {
        let huge = [&[MARK, b'Z'][..], &u32::MAX.to_le_bytes(), b"xx"].concat();
        for bytes in [&[MARK][..], &[MARK, b'?'], &[MARK, b'F'], &[MARK, b'H', 1], &[MARK, b'N', 1], &[MARK, b'Z', 1], &huge] {
            assert_eq!(found(&Bytes::copy_from_slice(bytes)), Found::Unreadable, "{bytes:?}");
        }
    }

    #[test]
    fn large_values_are_compressed_only_if_that_helps() {
        let text = Bytes::from("a".repeat(5000));
        assert!(stored(Some(text.clone()), Some(4096)).len() < 200);
        assert_eq!(stored(Some(text.clone()), Some(5000)), text);
        let noise = Bytes::copy_from_slice(&[rand::random::<[u8; 32]>(); 1].concat());
        assert!(stored(Some(noise.clone()), Some(8)).len() <= noise.len() + 2);
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in proptest::collection::vec(any::<u8>(), 0..300), limit in proptest::option::of(0_usize..300)) {
            let value = Bytes::from(value);
            let stands = stored(Some(value.clone()), limit);
            prop_assert_eq!(read(&stands), Look { found: Found::Value(value.clone()), fenced: false });
            let held = Fence::new(Purpose::Refresh).holding(&stands);
            prop_assert_eq!(found(&held), Found::Value(value));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(0_u8..4, 0..40)) {
            let mut bytes = bytes;
            if let Some(kind) = bytes.get_mut(1) { *kind = b"RZNFHWB"[usize::from(*kind)]; }
            read(&Bytes::from(bytes));
        }
    }
}
