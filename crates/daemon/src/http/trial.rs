//! What bodies lead to, with nobody behind them: for tests that try a great many.

use unstale_events::Fields;
use unstale_router::Router;

use super::{Rules, entry, events, invalidate};
use crate::config::Loaded;

/// Judges bodies as the handlers do, and does nothing.
#[derive(Debug)]
pub struct Trial {
    router: Router,
    rules: Rules,
}

impl Trial {
    /// By the routes and limits of a configuration.
    ///
    /// # Errors
    /// As [`Rules::new`].
    pub fn new(loaded: Loaded) -> Result<Self, String> {
        Ok(Self { rules: Rules::new(&loaded.config)?, router: loaded.router })
    }

    /// The routes.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The entries that a body of `POST /v1/events` would add; `None` if it is refused.
    pub fn events(&self, body: &[u8]) -> Option<Vec<Fields>> {
        let planned = events::plan(&self.router, &self.rules, body).ok()?;
        Some(planned.into_iter().map(|planned| planned.fields).collect())
    }

    /// The entry that a body of `POST /v1/invalidate` would add; `None` if it is refused.
    pub fn invalidate(&self, body: &[u8]) -> Option<Fields> {
        let event = invalidate::read(body).ok()?;
        invalidate::judge(&self.router, &event).ok()?;
        entry::fields(&event.to_string()).ok()
    }
}
