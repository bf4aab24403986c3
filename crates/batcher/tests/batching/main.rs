//! Tests of the batcher from outside: every rule as an example, and what must hold whatever comes as properties.

mod kit;
mod properties;
mod rules;
mod settling;
