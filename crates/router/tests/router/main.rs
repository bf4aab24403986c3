//! What the routes promise: the language, the shipped presets, the messages for mistakes, and safety against hostile events.

mod catalogue;
mod hostile;
mod language;
mod problems;
mod support;
mod typed;
