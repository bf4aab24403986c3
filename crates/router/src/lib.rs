//! Routes: from an event to cache targets and a priority.
