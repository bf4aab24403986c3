//! Certificates for tests of TLS.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, Error, IsCa, Issuer, KeyPair};

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
        let files = Self { dir: tempfile::tempdir().expect("a temporary directory can be made") };
        files.write_all().expect("certificates can be made");
        files
    }

    /// The path of one of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_all(&self) -> Result<(), Error> {
        let authority = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.write("ca.pem", &params.self_signed(&authority)?.pem());
        let issuer = Issuer::new(params, authority);
        for name in ["server", "client"] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            self.write(&format!("{name}.pem"), &params.signed_by(&key, &issuer)?.pem());
            self.write(&format!("{name}.key"), &key.serialize_pem());
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file can be written to one's own directory");
    }
}
