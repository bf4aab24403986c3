//! Why an entry can't be worked off, as its dead letter says it.

use std::fmt;

/// The kind of a reason: a closed set, for programs that read dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The entry is not an event.
    Undecodable,
    /// The entry is over `limits.entry`.
    TooLarge,
    /// The event has more targets than `limits.targets`.
    TooManyTargets,
    /// A route needs an attribute that is absent, null, empty or no scalar.
    MissingAttribute,
    /// Two attributes whose names are equal have different values.
    ConflictingAttribute,
    /// A target lies outside its cache, or is protected.
    RefusedTarget,
    /// No route names the type, and `bus.unrouted = "dead-letter"`.
    Unrouted,
    /// Redis answered with an error that no repetition can mend.
    CommandFailed,
    /// The entry was delivered too often: it seems to kill the process.
    Deliveries,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 9] = [
        Self::Undecodable,
        Self::TooLarge,
        Self::TooManyTargets,
        Self::MissingAttribute,
        Self::ConflictingAttribute,
        Self::RefusedTarget,
        Self::Unrouted,
        Self::CommandFailed,
        Self::Deliveries,
    ];

    /// The name used in `dead_reason` and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too_large",
            Self::TooManyTargets => "too_many_targets",
            Self::MissingAttribute => "missing_attribute",
            Self::ConflictingAttribute => "conflicting_attribute",
            Self::RefusedTarget => "refused_target",
            Self::Unrouted => "unrouted",
            Self::CommandFailed => "command_failed",
            Self::Deliveries => "deliveries",
        }
    }
}

/// One reason: its code, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The kind.
    pub code: Code,
    /// What is wrong, where, and what would be right.
    pub text: String,
}

impl Reason {
    /// A reason of this kind.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.text)
    }
}
