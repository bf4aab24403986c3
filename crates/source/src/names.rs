//! The keys that the sidecars of one namespace share.

use unstale_events::StreamKind;

/// Every key, group and channel name of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The ordinary stream.
    pub events: String,
    /// The critical stream.
    pub critical: String,
    /// The stream of dead letters.
    pub dead: String,
    /// The consumer group, of both streams.
    pub group: String,
    /// The notice log, and the channel of the same name.
    pub notices: String,
    /// The reader's lease.
    pub lease: String,
    /// When each instance was last alive: a sorted set.
    pub beats: String,
    /// How far each instance's receivers have come: a hash.
    pub positions: String,
    /// Since when beats have come without a gap: gone after one.
    pub pulse: String,
    /// Whether the ordinary stream lies in the namespace; if not, others own it.
    pub owned: bool,
}

impl Names {
    /// The names of a namespace; `stream` is `bus.stream`, an ordinary stream that exists elsewhere.
    pub fn new(namespace: &str, stream: Option<&str>) -> Self {
        let own = |name: &str| format!("{namespace}:{name}");
        let events = stream.map_or_else(|| own("events"), str::to_owned);
        Self {
            owned: events.strip_prefix(namespace).is_some_and(|rest| rest.starts_with(':')),
            events,
            critical: own("events:critical"),
            dead: own("events:dead"),
            group: namespace.to_owned(),
            notices: own("notices"),
            lease: own("reader"),
            beats: own("instances"),
            positions: own("positions"),
            pulse: own("pulse"),
        }
    }

    /// The key of a stream.
    pub fn stream(&self, kind: StreamKind) -> &str {
        match kind {
            StreamKind::Critical => &self.critical,
            StreamKind::Ordinary => &self.events,
        }
    }

    /// All keys: what no route may ever delete.
    pub fn keys(&self) -> [&str; 8] {
        [&self.events, &self.critical, &self.dead, &self.notices, &self.lease, &self.beats, &self.positions, &self.pulse]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_begin_with_the_namespace() {
        let names = Names::new("shop", None);
        assert!(names.keys().iter().all(|key| key.starts_with("shop:")));
        assert_eq!((names.events.as_str(), names.group.as_str(), names.owned), ("shop:events", "shop", true));
    }

    #[test]
    fn a_stream_elsewhere_is_not_owned() {
        let names = Names::new("shop", Some("shopping:events"));
        assert_eq!((names.events.as_str(), names.critical.as_str(), names.owned), ("shopping:events", "shop:events:critical", false));
    }
}
