//! The correlation ids and operation names that a batch carries along: each once, and not without bound.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// Up to [`Labels::MAX`] distinct short texts in one buffer.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    text: String,
    ends: Vec<usize>,
    hashes: Vec<u64>,
    hasher: RandomState,
}

impl Labels {
    /// How many texts are kept; later ones are not.
    pub const MAX: usize = 100;
    /// How long a text may be, in bytes; a longer one is cut.
    pub const MAX_BYTES: usize = 256;

    /// Keeps this text, unless it is there already or the list is full.
    pub(crate) fn add(&mut self, text: &str) {
        if self.ends.len() == Self::MAX {
            return;
        }
        let text = shortened(text);
        let hash = self.hasher.hash_one(text);
        if !self.contains(text, hash) {
            self.text.push_str(text);
            self.ends.push(self.text.len());
            self.hashes.push(hash);
        }
    }

    /// The texts in the order in which they came.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len()).map(|index| self.get(index))
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The memory that the texts take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.ends.len() * (size_of::<usize>() + size_of::<u64>())
    }

    fn contains(&self, text: &str, hash: u64) -> bool {
        self.hashes.iter().enumerate().any(|(index, other)| *other == hash && self.get(index) == text)
    }

    fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }
}

fn shortened(text: &str) -> &str {
    let end = (0..=Labels::MAX_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
