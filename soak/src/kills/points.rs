//! The named points: a command of the sidecar, and a moment on its way. And who shoots there.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use unstale_testkit::{Listener, Value, Verdict};
use unstale_tests::Sidecar;

use crate::oracle::lock;

/// A command that sidecars send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    ReadOrdinary,
    ReadCritical,
    Deliver,
    Scan,
    DeleteScanned,
    Acknowledge,
    Bury,
    ListPending,
    Claim,
    Beat,
    Survey,
    Trim,
}

/// A moment on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The sidecar has sent it, Redis doesn't have it.
    Sent,
    /// Redis has done it, the sidecar doesn't know.
    Done,
    /// The sidecar has got the answer.
    Answered,
}

/// Where to shoot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) step: Step,
    pub(crate) moment: Moment,
}

pub(crate) const STEPS: [Step; 12] = [
    Step::ReadOrdinary,
    Step::ReadCritical,
    Step::Deliver,
    Step::Scan,
    Step::DeleteScanned,
    Step::Acknowledge,
    Step::Bury,
    Step::ListPending,
    Step::Claim,
    Step::Beat,
    Step::Survey,
    Step::Trim,
];
pub(crate) const MOMENTS: [Moment; 3] = [Moment::Sent, Moment::Done, Moment::Answered];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::ReadOrdinary => "XREADGROUP, ordinary stream",
            Self::ReadCritical => "XREADGROUP, critical stream",
            Self::Deliver => "EVALSHA of a delivery",
            Self::Scan => "SCAN",
            Self::DeleteScanned => "UNLINK of what a scan found",
            Self::Acknowledge => "XACK",
            Self::Bury => "XADD of a dead letter",
            Self::ListPending => "XPENDING",
            Self::Claim => "EVALSHA of a claim",
            Self::Beat => "EVALSHA of a beat",
            Self::Survey => "XINFO",
            Self::Trim => "XTRIM",
        }
    }

    /// Whether it comes only some seconds after a sidecar died, when its entries are taken over.
    pub(crate) fn is_of_takeover(self) -> bool {
        matches!(self, Self::ListPending | Self::Claim)
    }

    fn of(command: &[Vec<u8>]) -> Option<Self> {
        let word = |index: usize| command.get(index).map(Vec::as_slice).unwrap_or_default();
        let names = |key: &[u8]| command.iter().any(|word| word == key);
        match word(0) {
            b"XREADGROUP" if names(b"unstale:events:critical") => Some(Self::ReadCritical),
            b"XREADGROUP" => Some(Self::ReadOrdinary),
            b"EVALSHA" | b"EVAL" => match word(3) {
                b"unstale:notices" => Some(Self::Deliver),
                b"unstale:instances" => Some(Self::Beat),
                // Of the scripts on a stream alone it is the one that is given ids, behind seven other arguments.
                b"unstale:events" | b"unstale:events:critical" if word(2) == b"1" && command.len() > 11 => Some(Self::Claim),
                _ => None,
            },
            b"SCAN" => Some(Self::Scan),
            b"UNLINK" => Some(Self::DeleteScanned),
            b"XACK" => Some(Self::Acknowledge),
            b"XADD" if names(b"unstale:events:dead") => Some(Self::Bury),
            b"XPENDING" => Some(Self::ListPending),
            b"XINFO" => Some(Self::Survey),
            b"XTRIM" => Some(Self::Trim),
            _ => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Sent => "before Redis has it",
            Moment::Done => "before the answer is heard",
            Moment::Answered => "after the answer",
        };
        write!(f, "{}: {moment}", self.step.name())
    }
}

/// The members of the crew, each of whom a shot may end at any time.
pub(crate) type Members = Arc<Vec<Mutex<Sidecar>>>;

/// Where the next shot falls, and whom it has hit.
#[derive(Debug, Default)]
pub(crate) struct Trigger {
    state: Mutex<(Option<Point>, Option<usize>)>,
    fired: Condvar,
}

impl Trigger {
    /// Waits until somebody passes this point and is killed there; returns who. `None` if nobody comes.
    pub(crate) fn wait_at(&self, point: Point, patience: Duration) -> Option<usize> {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.state);
        *state = (Some(point), None);
        while state.1.is_none() && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            state = self.fired.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        state.0 = None;
        state.1.take()
    }

    /// Kills this member if the shot falls here.
    fn pass(&self, command: &[Vec<u8>], moment: Moment, one: usize, members: &OnceMembers) -> Verdict {
        let mut state = lock(&self.state);
        let falls = state.0.is_some_and(|point| point.moment == moment && Step::of(command) == Some(point.step));
        let Some(members) = members.get().filter(|_| falls) else { return Verdict::Pass };
        lock(&members[one]).kill();
        *state = (None, Some(one));
        self.fired.notify_all();
        Verdict::Cut
    }
}

/// The members, known once they are started: each needs its proxy first.
pub(crate) type OnceMembers = Arc<std::sync::OnceLock<Members>>;

/// Listens to one member.
pub(crate) struct Sniper {
    pub(crate) one: usize,
    pub(crate) trigger: Arc<Trigger>,
    pub(crate) members: OnceMembers,
}

impl Listener for Sniper {
    fn asked(&self, command: &mut Vec<Vec<u8>>) -> Verdict {
        self.trigger.pass(command, Moment::Sent, self.one, &self.members)
    }

    fn answered(&self, command: &[Vec<u8>], reply: &Value) -> Verdict {
        // A read that brought nothing is no point of interest.
        if reply.is_nil() { Verdict::Pass } else { self.trigger.pass(command, Moment::Done, self.one, &self.members) }
    }

    fn heard(&self, command: &[Vec<u8>]) -> Verdict {
        self.trigger.pass(command, Moment::Answered, self.one, &self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_apart() {
        let step = |words: &str| Step::of(&words.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(step("XREADGROUP GROUP unstale a STREAMS unstale:events >"), Some(Step::ReadOrdinary));
        assert_eq!(step("XREADGROUP GROUP unstale a STREAMS unstale:events:critical >"), Some(Step::ReadCritical));
        assert_eq!(step("EVALSHA abc 2 unstale:notices k:1"), Some(Step::Deliver));
        assert_eq!(step("EVALSHA abc 2 unstale:instances unstale:reader"), Some(Step::Beat));
        assert_eq!(step("EVALSHA abc 1 unstale:events unstale a 0 dead 9 9 9 1-0"), Some(Step::Claim));
        assert_eq!(step("EVALSHA abc 1 unstale:events unstale 0"), None);
        assert_eq!(step("XADD unstale:events:dead * a b"), Some(Step::Bury));
        assert_eq!(step("XADD unstale:events * a b"), None);
    }
}
