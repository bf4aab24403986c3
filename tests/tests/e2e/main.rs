//! The real `unstale` against real Redis: what SPEC.md promises, shown from outside.

mod batching;
mod catalogue;
mod smoke;
mod wire;
