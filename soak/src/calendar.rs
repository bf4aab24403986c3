//! When which fault was on, and how long after its end its traces lasted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stage::Deed;

/// An event that took this much longer than its window is a trace of the fault before it.
const OVERDUE: Duration = Duration::from_millis(500);
/// How long after a loss of history somebody may notice it: a sentinel demotes the old master after ten seconds.
const LATELY: Duration = Duration::from_secs(20);

/// One fault.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its kind, as the report groups them.
    pub kind: &'static str,
    /// What exactly was done to whom.
    pub what: String,
    /// When it began.
    pub begun: Instant,
    /// When it was over; `None` while it is on.
    pub ended: Option<Instant>,
    /// How long its traces are excused.
    pub grace: Duration,
    /// Whether it may take back what was confirmed.
    pub loses: bool,
    /// Whether traces of another were excused still when it began.
    pub on_top: bool,
    /// How long after its end events were seen late.
    pub recovery: Duration,
}

impl Fault {
    fn excused_until(&self) -> Option<Instant> {
        self.ended.map(|ended| ended + self.grace)
    }

    fn excuses(&self, at: Instant) -> bool {
        self.begun <= at && self.excused_until().is_none_or(|until| at < until)
    }
}

/// All faults of a run in the order of their beginning.
#[derive(Debug, Default)]
pub struct Calendar {
    faults: Mutex<Vec<Fault>>,
}

impl Calendar {
    /// Notes that a fault begins. Returns its number, for [`Calendar::end`].
    pub fn begin(&self, deed: &Deed, what: String) -> usize {
        let Deed { kind, grace, loses, .. } = *deed;
        let mut faults = self.faults();
        let begun = Instant::now();
        let on_top = faults.iter().rev().take(8).any(|fault| fault.excuses(begun));
        faults.push(Fault { kind, what, begun, ended: None, grace, loses, on_top, recovery: Duration::ZERO });
        faults.len() - 1
    }

    /// Notes that it is over.
    pub fn end(&self, fault: usize) {
        self.faults()[fault].ended = Some(Instant::now());
    }

    /// Notes a fault of the machine's own that has ended now and lasted so long.
    pub fn past(&self, deed: &Deed, what: String, lasted: Duration) {
        let Deed { kind, grace, loses, .. } = *deed;
        let now = Instant::now();
        let fault = Fault {
            kind,
            what,
            begun: now.checked_sub(lasted).unwrap_or(now),
            ended: Some(now),
            grace,
            loses,
            on_top: true,
            recovery: Duration::ZERO,
        };
        self.faults().push(fault);
    }

    /// Whether a fault that may take back what was confirmed was on lately.
    pub fn may_have_lost(&self) -> bool {
        let lately = |fault: &&Fault| fault.ended.is_none_or(|ended| ended.elapsed() < LATELY);
        self.faults().iter().rev().filter(lately).any(|fault| fault.loses)
    }

    /// Whether a master that is replaced now has been replaced by one of the faults.
    pub fn replaces_masters(&self) -> bool {
        let now = Instant::now();
        self.faults().iter().any(|fault| fault.loses && fault.excuses(now))
    }

    /// Whether some fault excuses what is seen now.
    pub fn excuses(&self, at: Instant) -> bool {
        self.faults().iter().any(|fault| fault.excuses(at))
    }

    /// How much of this time no fault excuses.
    pub fn undisturbed(&self, from: Instant, to: Instant) -> Duration {
        let faults = self.faults();
        let mut left: Vec<(Instant, Instant)> = vec![(from, to)];
        for fault in faults.iter() {
            let (begun, until) = (fault.begun, fault.excused_until().unwrap_or(to));
            if until > from && begun < to {
                left = left
                    .into_iter()
                    .flat_map(|(from, to)| [(from, to.min(begun)), (from.max(until), to)])
                    .filter(|(from, to)| from < to)
                    .collect();
            }
        }
        left.iter().map(|(from, to)| *to - *from).sum()
    }

    /// The faults that excuse some of this time, in words, with when they were, counted from `zero`.
    pub fn named(&self, from: Instant, to: Instant, zero: Instant) -> Vec<String> {
        let faults = self.faults();
        let near = faults.iter().filter(|fault| fault.begun < to && fault.excused_until().is_none_or(|until| until > from));
        near.map(|fault| {
            let at = |instant: Instant| format!("{:.3} s", instant.saturating_duration_since(zero).as_secs_f64());
            format!("{} ({}) from {} to {}", fault.kind, fault.what, at(fault.begun), fault.ended.map_or("now".to_owned(), at))
        })
        .collect()
    }

    /// An event was worked off that was due at `due`: if that is late, the newest fault has not been got over before now. What was due when others
    /// had been in time again for a while is no trace of it: a busy machine has late events of its own.
    pub fn worked_off(&self, due: Instant, now: Instant) {
        if now.saturating_duration_since(due) < OVERDUE {
            return;
        }
        if let Some(fault) =
            self.faults().iter_mut().rev().find(|fault| fault.begun < now && !crate::metronome::KINDS.contains(&fault.kind))
            && let Some(ended) = fault.ended
            && due <= ended + fault.grace.max(fault.recovery)
        {
            fault.recovery = fault.recovery.max(now.saturating_duration_since(ended));
        }
    }

    /// The fault that is on, if any.
    pub fn current(&self) -> Option<String> {
        self.faults().iter().rev().find(|fault| fault.ended.is_none()).map(|fault| format!("{}: {}", fault.kind, fault.what))
    }

    /// All faults, by kind.
    pub fn by_kind(&self) -> BTreeMap<&'static str, Vec<Fault>> {
        let mut kinds: BTreeMap<&'static str, Vec<Fault>> = BTreeMap::new();
        for fault in self.faults().iter() {
            kinds.entry(fault.kind).or_default().push(fault.clone());
        }
        kinds
    }

    fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn calendar(zero: Instant, faults: &[(u32, u32)]) -> Calendar {
        let fault = |(from, to): &(u32, u32)| Fault {
            kind: "test",
            what: String::new(),
            begun: zero + SECOND * *from,
            ended: Some(zero + SECOND * *to),
            grace: SECOND,
            loses: false,
            on_top: false,
            recovery: Duration::ZERO,
        };
        Calendar { faults: Mutex::new(faults.iter().map(fault).collect()) }
    }

    #[test]
    fn time_under_a_fault_and_its_grace_is_not_counted() {
        let zero = Instant::now();
        let undisturbed = |faults: &[(u32, u32)]| calendar(zero, faults).undisturbed(zero, zero + SECOND * 10);
        assert_eq!(undisturbed(&[]), SECOND * 10);
        assert_eq!(undisturbed(&[(2, 4)]), SECOND * 7);
        assert_eq!(undisturbed(&[(2, 4), (3, 6)]), SECOND * 5);
        assert_eq!(undisturbed(&[(0, 10)]), Duration::ZERO);
        assert_eq!(undisturbed(&[(20, 30)]), SECOND * 10);
    }

    #[test]
    fn the_last_late_event_says_how_long_recovery_took() {
        let zero = Instant::now();
        let calendar = calendar(zero, &[(2, 4)]);
        calendar.worked_off(zero + SECOND * 3, zero + SECOND * 6);
        calendar.worked_off(zero + SECOND * 8, zero + SECOND * 8);
        let recovery = || calendar.by_kind()["test"][0].recovery;
        assert_eq!(recovery(), SECOND * 2);
        calendar.worked_off(zero + SECOND * 5, zero + SECOND * 7);
        assert_eq!(recovery(), SECOND * 3, "it was due while others were late");
        calendar.worked_off(zero + SECOND * 9, zero + SECOND * 10);
        assert_eq!(recovery(), SECOND * 3, "the one before was in time");
    }
}
