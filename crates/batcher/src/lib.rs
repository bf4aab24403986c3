//! Lanes, windows and coalescing: from targets to batches.
