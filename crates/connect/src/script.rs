//! A Lua script and the name by which Redis caches it.

use bytes::Bytes;

use crate::wire::Command;

/// A script, sent as its SHA-1 and in full only to a server that doesn't know it.
#[derive(Debug, Clone)]
pub struct Script {
    source: &'static str,
    sha: Bytes,
}

impl Script {
    /// Names a script by its SHA-1. Do it once, and keep it.
    ///
    /// What it returns must not be a flat list that begins with the text `message`, `subscribe` or their like: the client library would
    /// take that for a message of a channel. Put lists of texts that come from elsewhere inside a list.
    pub fn new(source: &'static str) -> Self {
        Self { source, sha: Bytes::from(fred::util::sha1_hash(source)) }
    }

    /// The SHA-1 in hexadecimal.
    pub fn sha(&self) -> &str {
        std::str::from_utf8(&self.sha).unwrap_or_default()
    }

    /// The command that runs it by its name.
    pub(crate) fn call(&self, keys: Vec<Bytes>, args: Vec<Bytes>) -> Command {
        let mut command = Command::new("EVALSHA").arg(self.sha.clone()).number(keys.len());
        let mut keys = keys.into_iter();
        if let Some(first) = keys.next() {
            command = command.key(first);
        }
        command.args(keys).args(args)
    }

    /// The same call for a server that doesn't know the name.
    pub(crate) fn in_full(&self, call: Command) -> Command {
        call.renamed("EVAL").with_first(Bytes::from_static(self.source.as_bytes()))
    }
}
