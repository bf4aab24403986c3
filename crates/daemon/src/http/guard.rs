//! Who may ask: what every request on `http.bind` is held against before anything looks at its path.
//!
//! A loopback port can be reached from a browser: a page of anywhere may send requests to it, and by DNS rebinding under a name of its own. So the
//! name that was asked for must be ours, and a page must not come from elsewhere.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::Refusal;
use super::{Rules, Shared, page};

/// Lets a request pass, or refuses it.
pub(super) async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let is_open = page::PATHS.contains(&request.uri().path());
    match check(&shared.app.rules, request.headers(), is_open) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// `is_open` if there it needs no token.
fn check(rules: &Rules, headers: &HeaderMap, is_open: bool) -> Result<(), Refusal> {
    let host = only(headers, &header::HOST)?.ok_or_else(|| forbidden("bad_host", "the request has no Host"))?;
    if !is_ours(host, &rules.hosts) {
        return Err(forbidden("bad_host", "the Host is neither an address nor `localhost`: name it in `http.hosts`"));
    }
    if only(headers, &header::ORIGIN)?.is_some_and(|origin| !is_same_origin(origin, host)) {
        return Err(forbidden("bad_origin", "the request comes from a page of elsewhere"));
    }
    match &rules.token {
        Some(token) if !is_open && !shows(headers, token.reveal()) => {
            let text = "send the token in `http.token_file` as `Authorization: Bearer …`";
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", text))
        }
        _ => Ok(()),
    }
}

fn forbidden(code: &'static str, message: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, code, message)
}

/// The value of a header that may come once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str()).transpose();
    match (value, values.next()) {
        (Ok(value), None) => Ok(value),
        _ => Err(Refusal::bad("bad_header", format!("the header {name} must come once, as text"))),
    }
}

/// An address, `localhost`, or one of the configured names; the port doesn't matter.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let name = without_port(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_named = || hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    address.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || is_named()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') && is_whole(name) => name,
        _ => host,
    }
}

/// Not cut inside an IPv6 address.
fn is_whole(name: &str) -> bool {
    !name.contains(':') || name.ends_with(']')
}

/// Whether a page is one that this server gave out: its scheme may differ behind a proxy.
fn is_same_origin(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let Some((scheme, credentials)) = shown.split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && is_same(credentials.trim_ascii(), token.as_bytes())
}

/// Takes the same time wherever they differ.
fn is_same(shown: &[u8], expected: &[u8]) -> bool {
    let difference = shown.iter().zip(expected).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    shown.len() == expected.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_configured_names_are_ours() {
        let hosts = ["api.example".to_owned()];
        let mixed = [
            "127.0.0.1",
            "127.0.0.1:7863",
            "[::1]",
            "[::1]:7863",
            "10.1.2.3:80",
            "localhost",
            "LOCALHOST:1",
            "api.example",
            "API.example:99",
        ];
        for host in mixed {
            assert!(is_ours(host, &hosts), "{host}");
        }
        let foreign = [
            "",
            ":80",
            "evil.example",
            "evil.example:7863",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost:x",
            "[localhost]",
            "x@localhost",
            "localhost:1:2",
        ];
        for host in foreign {
            assert!(!is_ours(host, &hosts), "{host}");
        }
    }

    #[test]
    fn only_the_own_origin_is_the_same() {
        assert!(is_same_origin("http://localhost:7863", "localhost:7863"));
        assert!(is_same_origin("https://api.example", "API.example"));
        for origin in ["null", "http://localhost:3000", "http://evil.example", "localhost:7863", "http://localhost:7863.evil.example", ""] {
            assert!(!is_same_origin(origin, "localhost:7863"), "{origin}");
        }
    }

    #[test]
    fn a_token_is_the_same_only_if_every_byte_is() {
        assert!(is_same(b"secret", b"secret"));
        for shown in [&b"secre"[..], b"secrets", b"Secret", b""] {
            assert!(!is_same(shown, b"secret"));
        }
    }
}
