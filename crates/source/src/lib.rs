//! The consumer group: reading, claiming, acknowledging, dead letters, the lease.
