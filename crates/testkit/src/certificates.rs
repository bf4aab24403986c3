//! Certificates for tests of TLS.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, Error, IsCa, Issuer, KeyPair, date_time_ymd};

/// The files of an authority of its own (`ca.pem`), and of a `server` and a `client` that it vouches for (`server.pem`, `server.key` and so
/// on), in a directory that goes away with this.
#[derive(Debug)]
pub struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    /// Makes them; all are for `localhost` and `127.0.0.1`.
    ///
    /// # Panics
    /// If they can't be written.
    #[expect(clippy::new_without_default, reason = "it writes files")]
    pub fn new() -> Self {
        Self::made(&["localhost", "127.0.0.1"], |_| {})
    }

    /// The same for other names.
    ///
    /// # Panics
    /// As [`Certificates::new`].
    pub fn naming(names: &[&str]) -> Self {
        Self::made(names, |_| {})
    }

    /// The same, but none has been valid for years.
    ///
    /// # Panics
    /// As [`Certificates::new`].
    pub fn expired() -> Self {
        Self::made(&["localhost", "127.0.0.1"], |params| params.not_after = date_time_ymd(2001, 1, 1))
    }

    fn made(names: &[&str], change: impl Fn(&mut CertificateParams)) -> Self {
        let files = Self { dir: tempfile::tempdir().expect("a temporary directory can be made") };
        files.write_all(names, change).expect("certificates can be made");
        files
    }

    /// The path of one of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts the files of others in the place of these, as when they are renewed.
    ///
    /// # Panics
    /// If they can't be written.
    pub fn renew(&self, others: &Self) {
        for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
            fs::copy(others.path(name), self.path(name)).expect("a file can be written to one's own directory");
        }
    }

    fn write_all(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Result<(), Error> {
        let authority = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        // Of two authorities with one name, a signature would be held against the wrong one.
        params.distinguished_name.push(DnType::CommonName, self.path("").display().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.write("ca.pem", &params.self_signed(&authority)?.pem());
        let issuer = Issuer::new(params, authority);
        for name in ["server", "client"] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
            params.distinguished_name.push(DnType::CommonName, name);
            change(&mut params);
            self.write(&format!("{name}.pem"), &params.signed_by(&key, &issuer)?.pem());
            self.write(&format!("{name}.key"), &key.serialize_pem());
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file can be written to one's own directory");
    }
}
