//! How large an entry may be.

use unstale_events::Fields;

/// What a field takes in memory beside its text, in bytes.
const FIELD: usize = size_of::<(bytes::Bytes, bytes::Bytes)>();
/// So many fields an entry may have whatever its limit.
const FIELDS: usize = 1024;

/// `limits.entry`: a larger entry is a dead letter, and its body isn't even asked for if that can be helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryLimit {
    /// The length of all names and values together, in bytes.
    pub bytes: usize,
    /// The number of fields: many small ones take more than their text.
    pub fields: usize,
}

impl EntryLimit {
    /// The limit for `limits.entry` in bytes: that many of text, and a field for each 64 of them.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, fields: (bytes / FIELD).max(FIELDS) }
    }

    /// Whether this is too much.
    pub fn is_exceeded(&self, size: Size) -> bool {
        size.bytes > self.bytes || size.fields > self.fields
    }
}

/// How large an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The length of all names and values together, in bytes.
    pub bytes: usize,
    /// The number of fields.
    pub fields: usize,
}

impl Size {
    /// The size of these fields.
    pub fn of(fields: &Fields) -> Self {
        Self { bytes: fields.iter().map(|(name, value)| name.len() + value.len()).sum(), fields: fields.len() }
    }

    /// What it takes in memory, in bytes.
    pub fn weight(&self) -> usize {
        self.bytes + self.fields * FIELD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_of_fields_are_both_limited() {
        let limit = EntryLimit::new(1 << 20);
        let exceeds = |bytes, fields| limit.is_exceeded(Size { bytes, fields });
        assert!(!exceeds(1 << 20, 16_384));
        assert!(exceeds((1 << 20) + 1, 1) && exceeds(20_000, 16_385));
        assert_eq!(EntryLimit::new(100).fields, 1024, "a small limit is about text");
    }

    #[test]
    fn a_field_weighs_more_than_its_text() {
        let fields = vec![(bytes::Bytes::from_static(b"ab"), bytes::Bytes::from_static(b"c"))];
        assert_eq!((Size::of(&fields), Size::of(&fields).weight()), (Size { bytes: 3, fields: 1 }, 67));
    }
}
