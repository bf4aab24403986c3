//! Real Redis servers for tests, and waits that say what they saw.
