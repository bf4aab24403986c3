//! TLS: whom we trust, and who we are.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use unstale_connect::{Client, Link, Role};
use unstale_testkit::{Redis, server_has_tls};

use crate::{LONG, server};

/// An authority, and a server and a client that it vouches for.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(files.path("ca.pem"), params.self_signed(&authority).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, authority);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            fs::write(files.path(&format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
            fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[tokio::test]
async fn a_private_authority_and_a_client_certificate_are_enough() {
    if !server_has_tls() {
        return;
    }
    let files = Files::new();
    let ca = files.path("ca.pem");
    let redis = Redis::builder().tls(&files.path("server.pem"), &files.path("server.key"), Some(&ca)).start().await;
    let mut server = server(&redis.url());
    server.ca = Some(ca);
    (server.cert, server.key) = (Some(files.path("client.pem")), Some(files.path("client.key")));
    assert_eq!(server.problems(), Vec::<String>::new());
    let client = Client::open(&server, Role::Commands, "test").unwrap();
    client.ready(LONG).await.unwrap();
    client.ping().await.unwrap();
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_says_so() {
    if !server_has_tls() {
        return;
    }
    let (files, other) = (Files::new(), Files::new());
    let redis = Redis::builder().tls(&files.path("server.pem"), &files.path("server.key"), None).start().await;
    let mut server = server(&redis.url());
    server.ca = Some(other.path("ca.pem"));
    let client = Client::open(&server, Role::Commands, "test").unwrap();
    let mut link = client.link();
    let refused = link.wait_for(|link| matches!(link, Link::Down { why, .. } if why.text.contains("Certificate")));
    assert!(tokio::time::timeout(LONG, refused).await.is_ok(), "{:?}", client.link().borrow());
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let files = Files::new();
    let mut server = server("rediss://127.0.0.1");
    server.ca = Some(files.path("server.key"));
    assert!(server.problems()[0].contains("server.key: no certificate in it"), "{:?}", server.problems());
    server.ca = Some(files.path("ca.pem"));
    (server.cert, server.key) = (Some(files.path("client.pem")), Some(files.path("server.key")));
    assert!(server.problems()[0].contains("client.pem"), "{:?}", server.problems());
}
