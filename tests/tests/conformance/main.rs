//! The five systems of the catalogue, each by its own scenarios: keys of their real form, on a real Redis, through the shipped preset.
//!
//! Each test is a row of `docs/conformance.md`, made by `cargo xtask conformance --record`: its module is the system, its name the scenario, and what
//! it gives to [`kit::figure`] the figure. `cargo xtask tidy` holds that the page has a row for each. What the tests of other packages show of
//! the systems is listed in `xtask/src/conformance.rs`, and not shown again here.

mod any_system;
mod endpoint_catalog;
mod entity_repository;
mod kit;
mod llm_gateway;
mod model_catalog;
mod pages;
mod subscription_plans;
