//! The usual stage: one server, one sidecar on it, and a [`Bus`] to look at both.

use std::ops::{Deref, DerefMut};

use unstale_testkit::{Redis, Resp};

use crate::{Bus, Setup, Sidecar};

/// One server and one sidecar that is ready. Dereferences to its [`Bus`].
pub struct World {
    /// The sidecar; dropped first.
    pub sidecar: Sidecar,
    bus: Bus,
    /// The server.
    pub redis: Redis,
}

impl World {
    /// With this configuration file.
    ///
    /// # Panics
    /// If server or sidecar don't start.
    pub fn start(config: &str) -> Self {
        Self::with(|setup| setup.config(config))
    }

    /// With a shipped preset.
    ///
    /// # Panics
    /// As [`World::start`].
    pub fn preset(name: &str) -> Self {
        Self::with(|setup| setup.preset(name))
    }

    /// With a sidecar set up otherwise.
    ///
    /// # Panics
    /// As [`World::start`].
    pub fn with(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let redis = Redis::start_sync();
        let sidecar = setup(Setup::on(&redis)).start(&redis);
        Self { sidecar, bus: Bus::new(&redis), redis }
    }

    /// The sidecar's full name, as in `origin` and `dead_by`.
    ///
    /// # Panics
    /// If it has no beat.
    pub fn origin(&mut self) -> String {
        self.sidecar.instance(&mut self.bus)
    }

    /// What the server runs while `work` is done, from MONITOR. Ends with a marker, so that nothing is missed.
    ///
    /// # Panics
    /// If MONITOR fails.
    pub fn monitored(&mut self, work: impl FnOnce(&mut Self)) -> Vec<String> {
        let mut monitor: Resp = self.redis.resp();
        monitor.monitor();
        work(self);
        self.cmd(&["ECHO", "the end of the test's work"]);
        monitor.monitored("the end of the test's work")
    }
}

impl Deref for World {
    type Target = Bus;

    fn deref(&self) -> &Bus {
        &self.bus
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Bus {
        &mut self.bus
    }
}
