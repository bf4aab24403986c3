//! Keys that a pattern of the same batch deletes anyway.

use unstale_events::glob::{Glob, literal_prefix};
use unstale_events::{CacheId, Target, TargetKind, Targets};

use crate::batch::Batch;
use crate::seen::append;

/// How much matching may cost at worst, in bytes of patterns times bytes of keys: some 30 ms for hostile ones, next to nothing for others.
/// Folding only saves work, so beyond that it is left out.
const MAX_COST: usize = 1 << 24;

/// A pattern of the batch, ready to be matched.
struct Scan {
    position: u32,
    cache: CacheId,
    prefix: String,
    glob: Glob,
}

impl Scan {
    fn covers(&self, key: Target<'_>) -> bool {
        key.cache == self.cache && key.text.starts_with(&self.prefix) && self.glob.matches(key.text.as_bytes())
    }
}

/// Takes such keys off the list; who asked for one waits for the pattern instead.
pub(crate) fn fold(batch: &mut Batch, unfolded: &[CacheId]) {
    let cost = bytes(&batch.targets, TargetKind::Pattern).saturating_mul(bytes(&batch.targets, TargetKind::Key));
    if cost == 0 || cost > MAX_COST {
        return;
    }
    let scans = scans(&batch.targets);
    let folds = |target: &Target<'_>| target.kind == TargetKind::Key && !unfolded.contains(&target.cache);
    let cover = |target: Target<'_>| scans.iter().find(|scan| folds(&target) && scan.covers(target)).map(|scan| scan.position);
    let covers: Vec<Option<u32>> = batch.targets.iter().map(cover).collect();
    if covers.iter().any(Option::is_some) {
        rebuild(batch, &covers);
    }
}

fn bytes(targets: &Targets, kind: TargetKind) -> usize {
    targets.iter().filter(|target| target.kind == kind).map(|target| target.text.len()).sum()
}

fn scans(targets: &Targets) -> Vec<Scan> {
    let scan = |(position, target): (u32, Target<'_>)| {
        let prefix = literal_prefix(target.text).into_owned();
        Scan { position, cache: target.cache, prefix, glob: Glob::new(target.text) }
    };
    (0..).zip(targets.iter()).filter(|(_, target)| target.kind == TargetKind::Pattern).map(scan).collect()
}

/// Keeps the targets that nothing covers, and turns who wanted the others to what covers them.
fn rebuild(batch: &mut Batch, covers: &[Option<u32>]) {
    let mut kept = Targets::default();
    let mut moved = vec![0; covers.len()];
    for ((target, cover), moved) in batch.targets.iter().zip(covers).zip(&mut moved) {
        if cover.is_none() {
            *moved = append(target, &mut kept);
        }
    }
    for position in &mut batch.wanted {
        let stays = covers[*position as usize].unwrap_or(*position);
        *position = moved[stays as usize];
    }
    batch.targets = kept;
}
