//! The latest notices, for as many receivers as like: each keeps a number, and nothing is kept for him. No I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use unstale_events::Position;

use crate::told::Told;

/// What one notice takes beside its text.
const OVERHEAD: usize = 200;

/// A bounded run of notices, each with an index that grows by one.
#[derive(Debug)]
pub(crate) struct Ring {
    told: VecDeque<Arc<Told>>,
    /// The index of the first.
    first: u64,
    /// The position before the first.
    base: Position,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

impl Ring {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self { told: VecDeque::new(), first: 0, base: Position::START, bytes: 0, most, most_bytes }
    }

    /// Begins at a position, empty.
    pub(crate) fn begin(&mut self, at: Position) {
        self.first = self.end();
        self.told.clear();
        (self.base, self.bytes) = (at, 0);
    }

    pub(crate) fn push(&mut self, told: Told) {
        self.bytes += weight(&told);
        self.told.push_back(Arc::new(told));
        while self.told.len() > self.most || (self.bytes > self.most_bytes && self.told.len() > 1) {
            self.shift();
        }
    }

    fn shift(&mut self) {
        if let Some(told) = self.told.pop_front() {
            self.bytes -= weight(&told);
            self.base = told.at;
            self.first += 1;
        }
    }

    /// The index of the oldest notice that is here.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The index that the next notice will have.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.told.len() as u64
    }

    /// The position of the notice before this index.
    pub(crate) fn before(&self, index: u64) -> Position {
        let before = index.checked_sub(self.first + 1).and_then(|place| self.told.get(usize::try_from(place).ok()?));
        before.map_or(self.base, |told| told.at)
    }

    /// The index after a position, if it is here. The newest counts: after history was lost a position may come again.
    pub(crate) fn after(&self, at: Position) -> Option<u64> {
        let known = (self.first..self.end()).rev().zip(self.told.iter().rev()).find(|(_, told)| told.at == at);
        known.map(|(index, _)| index + 1).or((self.base == at).then_some(self.first))
    }

    /// The notices from an index on, up to about so many bytes, one at least if there is one; `None` if they are gone.
    pub(crate) fn since(&self, index: u64, bytes: usize) -> Option<Vec<Arc<Told>>> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let mut left = bytes;
        let fits = |told: &&Arc<Told>| {
            let had_room = left > 0;
            left = left.saturating_sub(weight(told));
            had_room
        };
        Some(self.told.iter().skip(place).take_while(fits).cloned().collect())
    }
}

fn weight(told: &Told) -> usize {
    told.json.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use unstale_events::EntryId;

    use super::*;

    fn at(seq: u64) -> Position {
        Position { id: EntryId { ms: seq, seq: 0 }, seq }
    }

    fn ring(most: usize, bytes: usize, told: std::ops::RangeInclusive<u64>) -> Ring {
        let mut ring = Ring::new(most, bytes);
        ring.begin(at(told.start() - 1));
        told.for_each(|seq| ring.push(Told::gap(at(seq))));
        ring
    }

    #[test]
    fn it_keeps_the_latest() {
        let ring = ring(3, usize::MAX, 5..=9);
        assert_eq!((ring.first(), ring.end()), (2, 5));
        assert_eq!((ring.before(2), ring.before(3), ring.before(5)), (at(6), at(7), at(9)));
        assert_eq!(ring.since(1, 1000), None);
        assert_eq!(ring.since(3, 1000).unwrap().iter().map(|told| told.at).collect::<Vec<_>>(), [at(8), at(9)]);
        assert_eq!(ring.since(3, 1).unwrap().len(), 1);
        assert_eq!(ring.since(5, 1000).unwrap().len(), 0);
    }

    #[test]
    fn it_is_bounded_in_bytes_too_but_keeps_the_last() {
        assert_eq!(ring(100, 3 * (OVERHEAD + 60), 1..=9).told.len(), 3);
        assert_eq!(ring(100, 1, 1..=9).told.len(), 1);
    }

    #[test]
    fn positions_are_found() {
        let mut ring = ring(3, usize::MAX, 5..=9);
        assert_eq!((ring.after(at(5)), ring.after(at(6)), ring.after(at(9))), (None, Some(2), Some(5)));
        assert_eq!(ring.after(Position { id: at(8).id, seq: 9 }), None);
        ring.push(Told::gap(at(8)));
        assert_eq!(ring.after(at(8)), Some(6), "what comes after the loss, not before it");
        ring.begin(at(50));
        assert_eq!((ring.after(at(8)), ring.after(at(50)), ring.end()), (None, Some(6), 6));
    }
}
