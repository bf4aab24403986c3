//! Applies a batch: deletes in Redis, then logs and publishes the notice.
