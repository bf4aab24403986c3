//! What the vocabulary promises, tried from outside.
// Helpers of tests are tests to us, though not to clippy.
#![allow(clippy::unwrap_used)]

mod decode;
mod globs;
mod publish;
