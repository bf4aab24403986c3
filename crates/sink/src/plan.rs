//! Which targets travel together: the parts of a batch.

use unstale_batcher::Batch;
use unstale_events::{TargetKind, Targets};

use crate::place::Places;

/// Positions in a batch's targets that one script deals with: keys cache by cache, then patterns, then counters.
pub(crate) type Part = Vec<usize>;

/// The positions of those targets of a batch that are dealt with on one site, by what is done to them, cache by cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `None` is that of the log.
    pub(crate) site: Option<usize>,
    pub(crate) keys: Part,
    pub(crate) patterns: Part,
    pub(crate) counters: Part,
}

impl Plan {
    /// The plan of each site that the batch has targets on.
    pub(crate) fn of(batch: &Batch, places: &Places) -> Vec<Self> {
        let mut plans: Vec<Self> = Vec::with_capacity(1);
        for (position, target) in batch.targets.iter().enumerate() {
            let site = places.site_of(target.cache);
            let index = plans.iter().position(|plan| plan.site == site).unwrap_or_else(|| {
                plans.push(Self { site, ..Self::default() });
                plans.len() - 1
            });
            match target.kind {
                TargetKind::Key => plans[index].keys.push(position),
                TargetKind::Pattern => plans[index].patterns.push(position),
                TargetKind::Bump => plans[index].counters.push(position),
            }
        }
        for plan in &mut plans {
            by_cache(&mut plan.keys, &batch.targets);
            by_cache(&mut plan.patterns, &batch.targets);
        }
        plans
    }

    /// The positions of all its targets.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        [&self.keys, &self.patterns, &self.counters].into_iter().flatten().copied()
    }
}

pub(crate) fn by_cache(positions: &mut [usize], targets: &Targets) {
    positions.sort_by_key(|position| targets.get(*position).map(|target| target.cache));
}

/// Cuts targets into parts of at most `size`. The counters go with the last: they come after the deletes, once a batch.
pub(crate) fn parts(targets: &[usize], counters: &[usize], size: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = targets.chunks(size).map(<[usize]>::to_vec).collect();
    match parts.last_mut() {
        Some(last) => last.extend(counters),
        None if counters.is_empty() => {}
        None => parts.push(counters.to_vec()),
    }
    parts
}

/// Two halves of a part, or the part itself if it is one target.
pub(crate) fn halves(mut part: Part) -> Result<[Part; 2], Part> {
    if part.len() < 2 {
        return Err(part);
    }
    let second = part.split_off(part.len() / 2);
    Ok([part, second])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_the_counters_come_last() {
        assert_eq!(parts(&[1, 2, 3, 4, 5], &[9], 2), [vec![1, 2], vec![3, 4], vec![5, 9]]);
        assert_eq!(parts(&[1, 2], &[], 2), [vec![1, 2]]);
        assert_eq!(parts(&[], &[9], 2), [vec![9]]);
        assert_eq!(parts(&[], &[], 2), Vec::<Part>::new());
    }

    #[test]
    fn halving_ends_at_single_targets() {
        assert_eq!(halves(vec![1, 2, 3]), Ok([vec![1], vec![2, 3]]));
        assert_eq!(halves(vec![1]), Err(vec![1]));
    }
}
