//! The real `unstale` against real Redis: what SPEC.md promises, shown from outside.

mod catalogue;
mod smoke;
mod wire;
