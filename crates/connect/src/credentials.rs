//! Who we are to a server, and whom we trust: read anew for each connection, for passwords and certificates are renewed while we run.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use fred::types::config::{Config, TlsConfig};
use tokio_rustls::TlsConnector;

use crate::fault::{Fault, FaultKind};
use crate::server::Server;
use crate::tls;

/// What the files of a server hold.
#[derive(Default, Hash)]
pub(crate) struct Files {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) cert: Option<Vec<u8>>,
    pub(crate) key: Option<Vec<u8>>,
    password: Option<String>,
}

impl Files {
    /// Reads them, or says in a sentence which can't be read.
    pub(crate) fn of(server: &Server) -> Result<Self, String> {
        let read = |path: Option<&Path>, setting| {
            path.map(|path| fs::read(path).map_err(|error| tls::unusable(setting, path, &error))).transpose()
        };
        let password = server.secret().map(|password| password.read().map_err(|problem| format!("the file of the password {problem}")));
        Ok(Self {
            ca: read(server.ca.as_deref(), "ca")?,
            cert: read(server.cert.as_deref(), "cert")?,
            key: read(server.key.as_deref(), "key")?,
            password: password.transpose()?.map(|secret| secret.reveal().to_owned()),
        })
    }
}

/// What a connection is made with, but for the address. Not for printing.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u8,
    pub(crate) tls: Option<TlsConnector>,
}

impl From<Identity> for Config {
    /// The same for the client library.
    fn from(identity: Identity) -> Self {
        let Identity { username, password, database, tls } = identity;
        let database = Some(database).filter(|number| *number > 0);
        let tls = tls.map(|connector| TlsConfig::from(fred::types::config::TlsConnector::from(connector)));
        Self { username, password, database, tls, ..Self::default() }
    }
}

/// The server, and what was made of its files last. Not for printing.
pub(crate) struct Credentials {
    server: Server,
    /// A hash of the files' contents, and what connections are made with.
    made: Mutex<Option<(u64, Identity)>>,
}

impl Credentials {
    pub(crate) fn new(server: &Server) -> Self {
        Self { server: server.clone(), made: Mutex::new(None) }
    }

    /// What a connection is made with now. To parse certificates takes a while, so that is done only when they are new.
    ///
    /// # Errors
    /// [`FaultKind::Config`] if a file can't be used: also in the middle of a change, with the new certificate and the old key.
    pub(crate) fn identity(&self) -> Result<Identity, Fault> {
        let wrong = |text: String| Fault::new(FaultKind::Config, text);
        let files = Files::of(&self.server).map_err(wrong)?;
        let mut hasher = DefaultHasher::new();
        files.hash(&mut hasher);
        let hash = hasher.finish();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((known, identity)) if *known == hash => Ok(identity.clone()),
            _ => {
                let identity = self.make(files).map_err(wrong)?;
                *made = Some((hash, identity.clone()));
                Ok(identity)
            }
        }
    }

    fn make(&self, files: Files) -> Result<Identity, String> {
        let tls = self.server.url.tls.then(|| tls::config(&self.server, &files)).transpose()?;
        Ok(Identity {
            username: self.server.user().map(str::to_owned),
            password: files.password,
            database: self.server.url.database,
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
        })
    }
}
