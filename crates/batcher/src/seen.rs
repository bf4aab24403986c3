//! Which targets the open batch has already: a set of positions in its list, so that no text is kept twice.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use unstale_events::{Target, Targets};

/// The positions of the targets of one list, found by what the targets are. The seed is random, for publishers choose the keys.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    positions: HashTable<u32>,
    hasher: RandomState,
}

impl Seen {
    /// Forgets all positions but keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.positions.clear();
    }

    /// Whether the list has this target.
    pub(crate) fn has(&self, target: Target<'_>, list: &Targets) -> bool {
        let same = |position: &u32| at(list, *position) == target;
        self.positions.find(hash(&self.hasher, target), same).is_some()
    }

    /// The target's position in the list, to which it is added if it isn't there yet.
    pub(crate) fn place(&mut self, target: Target<'_>, list: &mut Targets) -> u32 {
        let same = |position: &u32| at(list, *position) == target;
        let rehash = |position: &u32| hash(&self.hasher, at(list, *position));
        match self.positions.entry(hash(&self.hasher, target), same, rehash) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(free) => *free.insert(append(target, list)).get(),
        }
    }
}

/// Adds the target at the end of the list, whether the list has it already or not.
pub(crate) fn append(target: Target<'_>, list: &mut Targets) -> u32 {
    let position = u32::try_from(list.len()).expect("limits.targets and max_size keep a batch far below 2^32 targets");
    list.push(target);
    position
}

fn at(list: &Targets, position: u32) -> Target<'_> {
    list.get(position as usize).expect("the set is cleared with its list, and the list never shrinks")
}

fn hash(hasher: &RandomState, target: Target<'_>) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(u32::from(target.cache.0) << 8 | target.kind as u32);
    state.write(target.text.as_bytes());
    state.finish()
}
