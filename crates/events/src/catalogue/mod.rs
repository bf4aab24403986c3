//! Typed events of the systems that publish them, a module for each: for publishers in Rust, for documentation and for tests.
//!
//! The daemon doesn't use them: it routes on names and attributes, so that an event of one's own needs a route and no release.

pub mod endpoint_catalog;
pub mod entity_repository;
pub mod llm_gateway;
pub mod model_catalog;
pub mod subscription_plans;

use serde::{Deserialize, Serialize};

use crate::publish::EventType;

/// One event of a catalogue, described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// What stands in `type`.
    pub name: &'static str,
    /// What happened.
    pub doc: &'static str,
    /// Its attributes in order.
    pub attributes: &'static [Attribute],
}

/// One attribute, described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// Its name; publishers may spell it otherwise.
    pub name: &'static str,
    /// Its type in Rust; `Option<…>` if it may be absent.
    pub kind: &'static str,
    /// What it says.
    pub doc: &'static str,
}

impl Attribute {
    /// Whether it may be absent.
    pub fn is_optional(&self) -> bool {
        self.kind.starts_with("Option")
    }
}

/// Writes each event's type, its [`EventType`] and the list that describes them all.
macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $about:literal])* $(#[serde($($serde:tt)*)])? $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, PartialEq, Default, ::serde::Serialize, ::serde::Deserialize)]
            pub struct $name {
                $($(#[doc = $about])* $(#[serde($($serde)*)])? pub $field: $kind,)*
            }

            impl $crate::publish::EventType for $name {
                const TYPE: &'static str = stringify!($name);
            }
        )*

        /// All events of this system.
        pub const EVENTS: &[$crate::catalogue::Described] = &[$($crate::catalogue::Described {
            name: stringify!($name),
            doc: concat!($($doc),*).trim_ascii(),
            attributes: &[$($crate::catalogue::Attribute {
                name: stringify!($field),
                kind: stringify!($kind),
                doc: concat!($($about),*).trim_ascii(),
            },)*],
        },)*];
    };
}
use events;

/// Asks for keys and patterns to be deleted, whatever happened: built in for every system, and what `POST /v1/invalidate` publishes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheInvalidationRequested {
    /// Exact keys.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Redis globs, at most 8 wildcards each.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// The cache that they belong to; without it the longest owned prefix decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// What it is for, carried to logs and notices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// `critical`, `high`, `normal` or `low`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<crate::Priority>,
}

impl EventType for CacheInvalidationRequested {
    const TYPE: &'static str = "CacheInvalidationRequested";
}
