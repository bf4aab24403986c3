//! `batching.profile`: settings of batching that go together, by the kind of load that they are for. Weaker than whatever is set by itself.

use super::layers::{Origin, Setting};
use super::settings::Profile;

impl Profile {
    /// Window, size and coalescing.
    fn values(self) -> (&'static str, i64, bool) {
        match self {
            Self::Default => ("100ms", 100, true),
            Self::Development => ("50ms", 50, true),
            Self::Throughput => ("200ms", 500, true),
            Self::LowLatency => ("20ms", 20, true),
            Self::Debugging => ("50ms", 10, false),
        }
    }
}

/// The settings that a profile stands for.
pub(super) fn settings(profile: Profile, name: &str) -> Vec<Setting> {
    let (window, size, coalescing) = profile.values();
    let values = [("window", window.into()), ("max_size", size.into()), ("coalescing", coalescing.into())];
    let setting = |(key, value)| {
        let path = ["batching", key].map(str::to_owned).to_vec();
        Setting { path, value, origin: Origin::Profile(name.to_owned()) }
    };
    values.map(setting).to_vec()
}
