//! Ports for servers that are started, killed and started again.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that no other test takes while this lives, not even while the server is down.
///
/// Two things see to that: a locked file for each port, held against other tests, and a range below the one that the kernel takes
/// ports from by itself, against everything else.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _lock: File,
}

impl Port {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    /// What a node of a cluster adds to its port for its talk with the others.
    const BUS: u16 = 10_000;

    pub(crate) fn reserve() -> Self {
        Self::search(Self::take)
    }

    /// The port of a node of a cluster, and the one that follows from it for its talk with the others.
    pub(crate) fn reserve_pair() -> (Self, Self) {
        Self::search(|locks, number| {
            let bus = number + Self::BUS;
            if bus < Self::FIRST + Self::COUNT { Some((Self::take(locks, number)?, Self::take(locks, bus)?)) } else { None }
        })
    }

    fn search<T>(take: impl Fn(&Path, u16) -> Option<T>) -> T {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let locks = env::temp_dir().join("unstale-testkit-ports");
        fs::create_dir_all(&locks).expect("a directory for port locks can be made");
        let start = u64::from(std::process::id()) * 131;
        (0..Self::COUNT)
            .map(|_| u64::from(NEXT.fetch_add(1, Ordering::Relaxed)) + start)
            .map(|turn| Self::FIRST + u16::try_from(turn % u64::from(Self::COUNT)).expect("COUNT is a u16"))
            .find_map(|number| take(&locks, number))
            .expect("one of 18000 ports is free")
    }

    fn take(locks: &Path, number: u16) -> Option<Self> {
        let lock = File::create(locks.join(number.to_string())).ok()?;
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }
}
