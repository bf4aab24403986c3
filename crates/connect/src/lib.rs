//! Connections to Redis and the few commands that unstale uses.
