//! Bugs that are planted to see whether the oracle finds them: not in the product, but in what it and Redis say to each other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use clap::ValueEnum;
use unstale_testkit::{Listener, Resp, Value, Verdict};

use crate::notice::NOTICES;
use crate::oracle::lock;
use crate::publisher::NAMESPACE;

/// One delivery in so many isn't announced.
const SKIPPED: u64 = 50;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// Entries are acknowledged when they are read, before anything was deleted: a kill loses them.
    AckBeforeDelete,
    /// Some deliveries are not announced.
    SkippedNotice,
    /// A pattern joins a scan that is under way: keys that the scan has passed by are left.
    JoinedScan,
}

impl Plant {
    /// Who sits between sidecar and Redis. The address of the server must be told before anything passes.
    pub fn listener(self) -> (Arc<dyn Listener>, Arc<OnceLock<SocketAddr>>) {
        let server = Arc::<OnceLock<SocketAddr>>::default();
        let listener: Arc<dyn Listener> = match self {
            Self::AckBeforeDelete => Arc::new(AckBeforeDelete { server: Arc::clone(&server) }),
            Self::SkippedNotice => Arc::new(SkippedNotice::default()),
            Self::JoinedScan => Arc::new(JoinedScan::default()),
        };
        (listener, server)
    }
}

struct AckBeforeDelete {
    server: Arc<OnceLock<SocketAddr>>,
}

impl Listener for AckBeforeDelete {
    fn answered(&self, command: &[Vec<u8>], reply: &Value) -> Verdict {
        if command.first().is_some_and(|name| name == b"XREADGROUP")
            && matches!(reply, Value::Array(_))
            && let Some(mut resp) = self.server.get().and_then(|server| Resp::tcp(server).ok())
        {
            for stream in reply.array() {
                let [name, entries] = stream.array() else { continue };
                let ids = entries.array().iter().map(|entry| entry.array()[0].text());
                let words: Vec<String> = ["XACK".to_owned(), name.text(), NAMESPACE.to_owned()].into_iter().chain(ids).collect();
                // A server that is away has nothing acknowledged: then the bug doesn't show this time.
                let _ = resp.try_cmd(&words);
            }
        }
        Verdict::Pass
    }
}

#[derive(Default)]
struct SkippedNotice {
    deliveries: AtomicU64,
}

impl Listener for SkippedNotice {
    fn asked(&self, command: &mut Vec<Vec<u8>>) -> Verdict {
        let is_delivery = command.len() > 4 && command[0] == b"EVALSHA" && command[3] == NOTICES.as_bytes();
        if is_delivery && self.deliveries.fetch_add(1, Ordering::Relaxed) % SKIPPED == SKIPPED - 1 {
            // EVALSHA, the script, how many keys, the keys; then the arguments, of which the fifth is the notice.
            let keys: usize = String::from_utf8_lossy(&command[2]).parse().unwrap_or_default();
            if let Some(notice) = command.get_mut(3 + keys + 4) {
                notice.clear();
            }
        }
        Verdict::Pass
    }
}

#[derive(Default)]
struct JoinedScan {
    /// Where the scan with this filter stood last.
    stood: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Listener for JoinedScan {
    fn asked(&self, command: &mut Vec<Vec<u8>>) -> Verdict {
        if command.first().is_some_and(|name| name == b"SCAN")
            && command[1] == b"0"
            && let Some(cursor) = lock(&self.stood).get(&command[3])
        {
            command[1].clone_from(cursor);
        }
        Verdict::Pass
    }

    fn answered(&self, command: &[Vec<u8>], reply: &Value) -> Verdict {
        if command.first().is_some_and(|name| name == b"SCAN")
            && let Value::Array(parts) = reply
            && let Some(Value::Bulk(cursor)) = parts.first()
            && cursor != b"0"
        {
            lock(&self.stood).insert(command[3].clone(), cursor.clone());
        }
        Verdict::Pass
    }
}
