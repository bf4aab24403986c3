//! The real `unstale` against real Redis: what SPEC.md promises, shown from outside.

mod batching;
mod bounds;
mod clients;
mod deploy;
mod effects;
mod everywhere;
mod faults;
mod installations;
mod instances;
mod loss;
mod notices;
mod one_round_trip;
mod page;
mod prometheus;
mod receivers;
mod refusals;
mod routes;
mod second_delete;
mod servers;
mod service;
mod smoke;
mod storm;
mod subscribers;
mod topologies;
mod tracking;
mod wire;
