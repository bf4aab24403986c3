//! The loop: one task that owns the state between reading and acknowledging.
