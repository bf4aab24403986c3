//! The shipped route packs, embedded.

/// A shipped route pack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

/// All of them, by name.
pub(crate) const ALL: [Preset; 5] = [
    Preset { name: "endpoint-catalog", text: include_str!("../presets/endpoint-catalog.toml") },
    Preset { name: "entity-repository", text: include_str!("../presets/entity-repository.toml") },
    Preset { name: "llm-gateway", text: include_str!("../presets/llm-gateway.toml") },
    Preset { name: "model-catalog", text: include_str!("../presets/model-catalog.toml") },
    Preset { name: "subscription-plans", text: include_str!("../presets/subscription-plans.toml") },
];

/// The names of the shipped presets.
pub fn presets_available() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|preset| preset.name)
}
