//! TLS: whom we trust, and who we are.

use unstale_connect::{Client, Link, Role};
use unstale_testkit::{Certificates, Redis, server_has_tls};

use crate::{LONG, server};

#[tokio::test]
async fn a_private_authority_and_a_client_certificate_are_enough() {
    if !server_has_tls() {
        return;
    }
    let files = Certificates::new();
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
    let (files, other) = (Certificates::new(), Certificates::new());
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
    let files = Certificates::new();
    let mut server = server("rediss://127.0.0.1");
    server.ca = Some(files.path("server.key"));
    assert!(server.problems()[0].contains("server.key: no certificate in it"), "{:?}", server.problems());
    server.ca = Some(files.path("ca.pem"));
    (server.cert, server.key) = (Some(files.path("client.pem")), Some(files.path("server.key")));
    assert!(server.problems()[0].contains("client.pem"), "{:?}", server.problems());
}
