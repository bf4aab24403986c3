//! TLS: whom we trust, and who we are.

use unstale_connect::{Client, FaultKind, Link, Password, Role, Server};
use unstale_testkit::{Certificates, Redis, server_has_tls, wait_until};

use crate::{LONG, ROLES, server};

/// A server that shows a certificate and wants one.
async fn both_show_one(files: &Certificates) -> Redis {
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| files.path(name));
    Redis::builder().tls(&cert, &key, Some(&ca)).start().await
}

/// What a sidecar is told of it.
fn with(url: &str, files: &Certificates) -> Server {
    let mut server = server(url);
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| Some(files.path(name)));
    (server.ca, server.cert, server.key) = (ca, cert, key);
    server
}

/// Why there is no connection.
async fn refused(server: &Server, role: Role) -> (FaultKind, String) {
    let client = Client::open(server, role, "test").unwrap();
    let told = || async {
        match &*client.link().borrow() {
            Link::Down { why, .. } if why.text != "not connected yet" => Ok((why.kind, why.text.clone())),
            other => Err(format!("{other:?}")),
        }
    };
    wait_until("the connection to be refused", LONG, told).await
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_with_what_to_do() {
    if !server_has_tls() {
        return;
    }
    let (files, other) = (Certificates::new(), Certificates::new());
    let redis = both_show_one(&files).await;
    let mut of_another = with(&redis.url(), &files);
    of_another.ca = Some(other.path("ca.pem"));
    let mut untrusted = with(&redis.url(), &other);
    untrusted.ca = Some(files.path("ca.pem"));
    let mut nobody = with(&redis.url(), &files);
    (nobody.cert, nobody.key) = (None, None);
    let (elsewhere, old) = (Certificates::naming(&["redis.example"]), Certificates::expired());
    let (named, expired) = (both_show_one(&elsewhere).await, both_show_one(&old).await);
    for (server, told) in [
        (of_another, "let `ca` name that authority's PEM file"),
        (with(&named.url(), &elsewhere), "but for: redis.example. Write such a name into `url`"),
        (with(&expired.url(), &old), "has expired or isn't valid yet"),
        (untrusted, "it doesn't trust our certificate: let `cert` and `key` name one"),
        (nobody, "it wants to see a certificate: let `cert` and `key` name one"),
    ] {
        for role in ROLES {
            let (kind, text) = refused(&server, role).await;
            assert!(kind == FaultKind::Config && text.contains(told), "{role:?} {kind:?} {text}");
        }
    }
}

/// Waits until it is up for the second time.
async fn again(client: &Client) {
    let mut link = client.link();
    let up = link.wait_for(|link| matches!(link, Link::Up { generation, .. } if *generation >= 2));
    assert!(tokio::time::timeout(LONG, up).await.is_ok(), "{:?}", client.link().borrow());
}

#[tokio::test]
async fn certificates_that_were_renewed_are_used_for_the_next_connection() {
    if !server_has_tls() {
        return;
    }
    let files = Certificates::new();
    let redis = both_show_one(&files).await;
    if redis.version() < (7, 0) {
        eprintln!("skipped: this server takes its certificate and its key one after the other, and neither without the other");
        return;
    }
    let clients = ROLES.map(|role| Client::open(&with(&redis.url(), &files), role, "test").unwrap());
    for client in &clients {
        client.ready(LONG).await.unwrap();
    }
    // Another authority, and new certificates for both sides.
    files.renew(&Certificates::new());
    let file = |name: &str| files.path(name).display().to_string();
    let config = [("tls-cert-file", file("server.pem")), ("tls-key-file", file("server.key")), ("tls-ca-cert-file", file("ca.pem"))];
    let words = ["CONFIG", "SET"].map(str::to_owned).into_iter().chain(config.into_iter().flat_map(|(name, file)| [name.to_owned(), file]));
    redis.cmd(&words.collect::<Vec<_>>());
    redis.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    for client in &clients {
        again(client).await;
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_password_that_was_changed_in_its_file_is_used_for_the_next_connection() {
    for role in ROLES {
        a_password_is_changed(role).await;
    }
}

async fn a_password_is_changed(role: Role) {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    redis.cmd(&["ACL", "SETUSER", "app", "on", ">first", "~*", "+@all"]);
    let mut server = server(&redis.url());
    (server.username, server.password) = (Some("app".to_owned()), Some(Password::File(file.clone())));
    let client = Client::open(&server, role, "test").unwrap();
    client.ready(LONG).await.unwrap();
    redis.cmd(&["ACL", "SETUSER", "app", "resetpass", ">second"]);
    redis.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let mut link = client.link();
    let refused = link.wait_for(|link| matches!(link, Link::Down { why, .. } if why.kind == FaultKind::Unauthenticated));
    assert!(tokio::time::timeout(LONG, refused).await.is_ok(), "{:?}", client.link().borrow());
    std::fs::write(&file, "second\n").unwrap();
    again(&client).await;
    assert_eq!(client.acl_whoami().await.unwrap(), "app");
    // A file that is gone is named by its setting only: who confuses the two has a password for its name.
    std::fs::remove_file(&file).unwrap();
    redis.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let mut link = client.link();
    let told = link.wait_for(|link| matches!(link, Link::Down { why, .. } if why.text.contains("the file of the password can't be read")));
    assert!(tokio::time::timeout(LONG, told).await.is_ok(), "{:?}", client.link().borrow());
}

#[tokio::test]
async fn a_private_authority_and_a_client_certificate_are_enough() {
    if !server_has_tls() {
        return;
    }
    let files = Certificates::new();
    let redis = both_show_one(&files).await;
    let server = with(&redis.url(), &files);
    assert_eq!(server.problems(), Vec::<String>::new());
    for role in ROLES {
        let client = Client::open(&server, role, "test").unwrap();
        client.ready(LONG).await.unwrap();
        client.ping().await.unwrap();
    }
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
