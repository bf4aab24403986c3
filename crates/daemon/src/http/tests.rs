//! Real requests over TCP against the server on a port of its own, with a real Redis behind it. The loop is played by the test: it holds the seat.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use unstale_connect::{Client, Role, Secret, Server as Redis};
use unstale_events::{Invalidation, Priority, TargetKind};
use unstale_notices::{Bounds, Course, Follower, Hub, IDLE, Log};
use unstale_pipeline::handle::{Deliver, DeliverError, DeliverReport, Handle, Request, Seat, seat};
use unstale_pipeline::health::{Health, Status};
use unstale_pipeline::stats::{Labels, Stats};
use unstale_router::{Input, Router, Source, compile};
use unstale_source::Names;
use unstale_testkit::{Redis as TestRedis, wait_until};

use super::{App, Lookout, Rules, Server};

const ROUTES: &str = r#"
protected = ["product:keep:"]

[cache.product]
prefixes = ["product:"]

[cache.price]
prefixes = ["price:"]

[[route]]
event = "ProductUpdated"
cache = "product"
keys = ["product:{product_id}", "product:{product_id}:{locale?}"]

[[route]]
event = "ProductUpdated"
cache = "price"
keys = ["price:{price_id?}"]

[[route]]
event = "ProductRevoked"
cache = "product"
priority = "critical"
keys = ["product:{product_id}"]

[[route]]
event = "Half"
cache = "product"
keys = ["product:fixed", "product:{missing}"]
"#;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(10);
const LOG: &str = "unstale:notices";

/// A server under test.
struct Api {
    address: SocketAddr,
    redis: TestRedis,
    seat: Seat,
    server: Server,
    handle: Handle,
}

fn rules() -> Rules {
    Rules { hosts: vec!["api.example".into()], token: None, body: 64 * 1024, entry: 4096, unrouted_is_dead: false, subscribers: 2 }
}

/// A hub that follows the log of notices.
fn follow(redis: &TestRedis, receivers: usize) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(Bounds { notices: 100, bytes: 1 << 20, receivers }));
    let client = Client::open(&Redis::new(redis.url().parse().unwrap()), Role::Reader { block: IDLE }, "http test").unwrap();
    let mut follower = Follower::waiting(Log::new(client, LOG), Course::begin());
    tokio::spawn({
        let hub = Arc::clone(&hub);
        async move { hub.follow(&mut follower).await }
    });
    hub
}

fn routes() -> Arc<Router> {
    let file = Source { name: "unstale.toml".into(), text: ROUTES.into() };
    let input = Input { file: Some(file), max_targets: 20, ..Input::default() };
    Arc::new(compile(&input).unwrap_or_else(|problems| panic!("{}", problems.render(false))))
}

fn app(redis: &TestRedis, router: Arc<Router>, handle: &Handle, publisher: Client, rules: Rules) -> App {
    let names = Names::new("unstale", None);
    let lookout = Lookout::new(publisher.clone(), names.clone());
    let (hub, log) = (follow(redis, rules.subscribers), Log::new(publisher.clone(), LOG));
    App { router, handle: handle.clone(), publisher, lookout, instance: "api-1".into(), names, hub, log, rules }
}

impl Api {
    async fn start() -> Self {
        Self::with(rules()).await
    }

    async fn with(rules: Rules) -> Self {
        let redis = TestRedis::start().await;
        let publisher = Client::open(&Redis::new(redis.url().parse().unwrap()), Role::Commands, "http test").unwrap();
        let mut link = publisher.link();
        link.wait_for(unstale_connect::Link::is_up).await.unwrap();
        let router = routes();
        let caches = router.caches().iter().map(|(_, cache)| cache.name.clone()).collect();
        let (seat, handle) =
            seat(Stats::new(Labels { caches, types: router.labels().to_vec(), version: "9.9.9".into(), ..Labels::default() }));
        let app = app(&redis, router, &handle, publisher, rules);
        let server = Server::start(LOOPBACK, app).await.unwrap();
        Self { address: server.address(), redis, seat, server, handle }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.address), "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        self.send(&head, body).await
    }

    async fn send(&self, head: &str, body: &str) -> Answer {
        send(self.address, head, body).await
    }

    /// The entries of a stream, each as a list of its fields and values.
    fn entries(&self, stream: &str) -> Vec<(String, Vec<String>)> {
        let reply = self.redis.cmd(&["XRANGE", stream, "-", "+"]);
        reply.array().iter().map(|entry| (entry.array()[0].text(), entry.array()[1].texts())).collect()
    }

    fn counts(&self) -> [usize; 2] {
        ["unstale:events:critical", "unstale:events"].map(|stream| self.entries(stream).len())
    }

    /// The next request to the loop.
    async fn asked(&mut self) -> Deliver {
        let request = wait_until("a request to the loop", PATIENCE, || {
            let request = self.seat.waiting_request().ok_or_else(|| "none".to_owned());
            async { request }
        });
        let Request::Deliver(deliver) = request.await;
        deliver
    }

    /// Answers the next request to the loop.
    async fn play_loop(&mut self, reply: Result<DeliverReport, DeliverError>) -> Invalidation {
        let deliver = self.asked().await;
        deliver.reply.send(reply).unwrap();
        deliver.invalidation
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The status, code and field of a refusal, which has a message too.
    fn refusal(&self) -> (u16, String, Value) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.body);
        assert!(self.has("content-type", "application/json"), "{}", self.head);
        (self.status, error["code"].as_str().unwrap().to_owned(), error["field"].clone())
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case(&format!("{name}: {value}")))
    }
}

/// One request on a connection of its own. `head` has no end yet.
async fn send(address: SocketAddr, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(format!("{head}{length}Connection: close\r\n\r\n{body}").as_bytes()).await;
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text).await;
    assert!(read.is_ok() || !text.is_empty(), "{read:?}");
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn refused(status: u16, code: &str, field: impl Into<Value>) -> (u16, String, Value) {
    (status, code.to_owned(), field.into())
}

const NOWHERE: Value = Value::Null;

#[tokio::test]
async fn the_first_page_says_where_everything_is() {
    let api = Api::start().await;
    let page = api.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.has("content-type", "text/plain; charset=utf-8"), "{}", page.head);
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/v1/stats",
        "/v1/overview",
        "/v1/events",
        "/v1/invalidate",
        "/v1/explain",
        "/v1/notices",
        "/v1/dead-letters",
    ] {
        assert!(page.body.contains(path), "{path}");
    }
}

#[tokio::test]
async fn a_browser_gets_a_page_that_may_use_nothing_of_elsewhere() {
    let api = Api::start().await;
    let page = api.send("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,*/*;q=0.8\r\n", "").await;
    assert!(page.has("content-type", "text/html; charset=utf-8") && page.has("vary", "accept"), "{}", page.head);
    let policy = page.head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-security-policy:")).unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    let elsewhere = page.body.matches("http").count()
        - page.body.matches("http://www.w3.org/2000/svg").count()
        - page.body.matches("http.token").count();
    assert_eq!(elsewhere, 0, "{}", page.body);
    for (path, kind) in [("/page.css", "text/css; charset=utf-8"), ("/page.js", "text/javascript; charset=utf-8")] {
        let file = api.get(path).await;
        assert!(file.status == 200 && file.has("content-type", kind) && file.has("x-content-type-options", "nosniff"), "{}", file.head);
    }
}

#[tokio::test]
async fn the_page_itself_needs_no_token_but_all_that_it_shows_does() {
    let api = Api::with(Rules { token: Some(Secret::new("s3cret")), ..rules() }).await;
    for path in ["/", "/page.css", "/page.js"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    assert_eq!(api.get("/v1/overview").await.refusal(), refused(401, "unauthorized", NOWHERE));
    assert_eq!(api.post("/v1/dead-letters/drop", r#"{"ids":["1-1"]}"#).await.refusal(), refused(401, "unauthorized", NOWHERE));
    let rebound = api.send("GET / HTTP/1.1\r\nHost: rebound.example\r\n", "").await;
    assert_eq!(rebound.refusal(), refused(403, "bad_host", NOWHERE));
}

#[tokio::test]
async fn the_overview_has_what_this_sidecar_counts_and_what_is_shared() {
    let api = Api::start().await;
    let mut stats = Stats::clone(&api.handle.stats());
    stats.queue(Priority::High, 4);
    stats.event(Some(0), unstale_pipeline::stats::Outcome::Routed);
    api.seat.publish(&stats);
    let now = api.redis.cmd(&["TIME"]).texts();
    let ms = format!("{}{}", now[0], &format!("{:0>6}", now[1])[..3]);
    api.redis.cmd(&["ZADD", "unstale:instances", &ms, "api-1"]);
    api.redis.cmd(&["SET", "unstale:reader", "api-1"]);
    api.redis.cmd(&["HSET", "unstale:positions", "api-1", "5-1/6"]);
    let notice = r#"{"v":1,"origin":"api-1","priority":"high","drop":[{"cache":"product","keys":["product:s3cret"]}],"events_total":2}"#;
    api.redis.cmd(&["XADD", "unstale:notices", "5-1", "seq", "7", "notice", notice]);
    api.redis.cmd(&["XADD", "unstale:notices", "5-2", "seq", "8", "notice", "rubbish"]);
    api.redis.cmd(&[
        "XADD",
        "unstale:events:dead",
        "6-1",
        "type",
        "A",
        "k",
        "s3cret",
        "dead_reason",
        "unrouted: a",
        "dead_stream",
        "unstale:events",
    ]);
    let answer = api.get("/v1/overview").await;
    assert!(!answer.body.contains("s3cret"), "{}", answer.body);
    let seen = answer.json();
    assert_eq!((&seen["instance"], &seen["namespace"], &seen["lanes"]["high"]["waiting"]), (&json!("api-1"), &json!("unstale"), &json!(4)));
    assert_eq!((&seen["events"]["routed"], &seen["lanes"]["high"]["ages"].as_array().map(Vec::len)), (&json!(1), &Some(13)));
    assert_eq!(seen["stats"], serde_json::to_value(stats.report()).unwrap());
    let shared = &seen["shared"];
    assert_eq!((&shared["instances"][0]["reader"], &shared["instances"][0]["behind"]), (&json!(true), &json!(1)), "{shared}");
    let drop = &shared["notices"][0]["drop"][0];
    assert_eq!((&drop["cache"], &drop["keys"]), (&json!("product"), &json!([unstale_events::fingerprint("product:s3cret")])));
    assert_eq!((&shared["dead_letters"]["total"], &shared["dead_letters"]["newest"][0]["codes"]), (&json!(1), &json!(["unrouted"])));
}

#[tokio::test]
async fn however_many_look_redis_is_asked_once_a_second() {
    let api = Api::start().await;
    api.get("/v1/overview").await;
    api.redis.cmd(&["XADD", "unstale:events:dead", "6-1", "type", "A", "dead_reason", "unrouted: a"]);
    let total = async |path: &str| api.get(path).await.json()["shared"]["dead_letters"]["total"].clone();
    let before = total("/v1/overview").await;
    assert_eq!(total("/v1/overview?fresh").await, 1, "who has just changed something sees it");
    wait_until("the next second", PATIENCE, || async {
        let now = total("/v1/overview").await;
        if now == 1 { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    assert!(before == 0 || before == 1);
}

#[tokio::test]
async fn without_redis_the_overview_shows_the_sidecar_alone_and_says_why() {
    let mut api = Api::start().await;
    api.get("/v1/overview").await;
    api.redis.kill();
    wait_until("the lost connection", PATIENCE, || async {
        let seen = api.get("/v1/overview?fresh").await.json();
        if seen["shared"].is_null() && seen["why"].is_string() && seen["stats"].is_object() { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn dead_letters_are_given_back_and_dropped_by_their_ids() {
    let api = Api::start().await;
    let bury = |id: &str, stream: &str| {
        api.redis.cmd(&["XADD", "unstale:events:dead", id, "type", "A", "k", "v", "dead_reason", "unrouted: a", "dead_stream", stream])
    };
    bury("6-1", "unstale:events");
    bury("6-2", "elsewhere");
    bury("6-3", "unstale:events");
    let answer = api.post("/v1/dead-letters/replay", r#"{"ids":["6-1","6-2","9-9"]}"#).await.json();
    let (id, fields) = api.entries("unstale:events").remove(0);
    assert_eq!(fields, ["type", "A", "k", "v"]);
    assert_eq!(answer["replayed"], json!([{"letter": "6-1", "stream": "unstale:events", "id": id}]));
    assert_eq!((&answer["missing"], &answer["refused"][0]["letter"]), (&json!(["9-9"]), &json!("6-2")));
    let answer = api.post("/v1/dead-letters/drop", r#"{"ids":["6-1","6-3"]}"#).await.json();
    assert_eq!(answer, json!({"dropped": 1, "missing": ["6-1"]}));
    let left: Vec<_> = api.entries("unstale:events:dead").into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, ["6-2"]);
}

#[tokio::test]
async fn a_bad_list_of_dead_letters_is_refused_whole() {
    let api = Api::start().await;
    let many = json!({"ids": vec!["1-1"; 101]}).to_string();
    for (body, status, code, field) in [
        ("{}", 400, "bad_body", NOWHERE),
        (r#"{"ids":"1-1"}"#, 400, "bad_body", NOWHERE),
        (r#"{"ids":["1-1","x"]}"#, 400, "bad_id", json!("ids[1]")),
        (many.as_str(), 413, "too_many_ids", NOWHERE),
    ] {
        for path in ["/v1/dead-letters/replay", "/v1/dead-letters/drop"] {
            assert_eq!(api.post(path, body).await.refusal(), refused(status, code, field.clone()), "{body}");
        }
    }
    let form =
        api.send("POST /v1/dead-letters/drop HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n", r#"{"ids":["1-1"]}"#).await;
    assert_eq!(form.refusal(), refused(415, "not_json", NOWHERE));
    let foreign =
        "POST /v1/dead-letters/drop HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nContent-Type: application/json\r\n";
    assert_eq!(api.send(foreign, r#"{"ids":["1-1"]}"#).await.refusal(), refused(403, "bad_origin", NOWHERE));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_the_common_shape() {
    let api = Api::start().await;
    assert_eq!(api.get("/v2").await.refusal(), refused(404, "not_found", NOWHERE));
    let wrong = api.get("/v1/events").await;
    assert_eq!(wrong.refusal(), refused(405, "method_not_allowed", NOWHERE));
    assert!(wrong.has("allow", "POST"), "{}", wrong.head);
    assert_eq!(api.post("/metrics", "{}").await.refusal(), refused(405, "method_not_allowed", NOWHERE));
}

#[tokio::test]
async fn a_host_must_be_an_address_localhost_or_configured() {
    let api = Api::start().await;
    for host in ["127.0.0.1:1", "[::1]", "localhost", "API.example:80"] {
        let answer = api.send(&format!("GET /v1/stats HTTP/1.1\r\nHost: {host}\r\n"), "").await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for path in ["/", "/metrics", "/healthz", "/readyz", "/v1/stats", "/nowhere"] {
        let answer = api.send(&format!("GET {path} HTTP/1.1\r\nHost: rebound.example\r\n"), "").await;
        assert_eq!(answer.refusal(), refused(403, "bad_host", NOWHERE), "{path}");
    }
    let twice = api.send("GET / HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n", "").await;
    assert_eq!(twice.status, 400, "{}", twice.body);
    assert_eq!(api.send("GET / HTTP/1.0\r\n", "").await.refusal(), refused(403, "bad_host", NOWHERE));
}

#[tokio::test]
async fn a_page_of_elsewhere_is_refused_before_anything_is_done() {
    let api = Api::start().await;
    let from = |origin: &str| {
        format!("POST /v1/events HTTP/1.1\r\nHost: localhost:7863\r\nOrigin: {origin}\r\nContent-Type: application/json\r\n")
    };
    let event = r#"{"type":"ProductUpdated","product_id":1}"#;
    for origin in ["https://evil.example", "http://localhost:3000", "null"] {
        assert_eq!(api.send(&from(origin), event).await.refusal(), refused(403, "bad_origin", NOWHERE), "{origin}");
    }
    assert_eq!(api.counts(), [0, 0]);
    assert_eq!(api.send(&from("http://localhost:7863"), event).await.status, 202);
}

#[tokio::test]
async fn a_token_opens_every_path_and_nothing_else_does() {
    let api = Api::with(Rules { token: Some(Secret::new("s3cret")), ..rules() }).await;
    let with = |path: &str, authorization: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n");
    for path in ["/metrics", "/healthz", "/v1/stats", "/page.css/", "/nowhere"] {
        let answer = api.get(path).await;
        assert_eq!(answer.refusal(), refused(401, "unauthorized", NOWHERE), "{path}");
        assert!(answer.has("www-authenticate", "Bearer") && !answer.body.contains("s3cret"));
    }
    for authorization in ["Bearer s3cre", "Bearer s3cret0", "Bearer", "Basic s3cret", "s3cret", "Bearer S3CRET"] {
        assert_eq!(api.send(&with("/metrics", authorization), "").await.status, 401, "{authorization}");
    }
    assert_eq!(api.send(&with("/metrics", "Bearer s3cret"), "").await.status, 200);
    assert_eq!(api.send(&with("/v1/stats", "bearer s3cret"), "").await.status, 200);
}

#[tokio::test]
async fn bodies_must_be_json_by_their_own_word() {
    let api = Api::start().await;
    for path in ["/v1/events", "/v1/invalidate", "/v1/explain"] {
        for kind in [
            "",
            "Content-Type: text/plain\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: application/jsonp\r\n",
        ] {
            let answer = api.send(&format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}"), r#"{"type":"ProductUpdated"}"#).await;
            assert_eq!(answer.refusal(), refused(415, "not_json", NOWHERE), "{path} {kind}");
        }
    }
    let head = "POST /v1/explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(api.send(head, r#"{"type":"ProductUpdated"}"#).await.status, 200);
}

#[tokio::test]
async fn a_body_may_have_so_many_bytes_and_no_more() {
    let api = Api::start().await;
    let of = |size: usize| format!("{}{}", r#"{"type":"Other"}"#, " ".repeat(size - 16));
    assert_eq!(api.post("/v1/events", &of(64 * 1024)).await.status, 202);
    for path in ["/v1/events", "/v1/invalidate", "/v1/explain"] {
        assert_eq!(api.post(path, &of(64 * 1024 + 1)).await.refusal(), refused(413, "too_large", NOWHERE), "{path}");
    }
}

#[tokio::test]
async fn bodies_that_wait_for_each_other_all_get_their_turn() {
    let api = Api::start().await;
    let many = (0..100).map(|number| {
        let body = format!(r#"{{"type":"ProductUpdated","product_id":{number}}}"#);
        async { (api.post("/v1/events", &body).await.status, body) }
    });
    for (status, body) in futures_util::future::join_all(many).await {
        assert_eq!(status, 202, "{body}");
    }
    assert_eq!(api.counts(), [0, 100]);
}

#[tokio::test]
async fn an_event_goes_to_the_stream_that_the_routes_say_as_it_was_sent() {
    let api = Api::start().await;
    let answer = api.post("/v1/events", r#"{"type":"ProductUpdated","product_id":17,"locale":"de"}"#).await;
    let (id, fields) = api.entries("unstale:events").remove(0);
    assert_eq!((answer.status, answer.json()), (202, json!({"entries": [{"stream": "unstale:events", "id": id}]})));
    assert_eq!(fields, ["type", "ProductUpdated", "data", r#"{"locale":"de","product_id":17}"#]);
    let answer =
        api.post("/v1/events", r#"{"specversion":"1.0","type":"ProductRevoked","id":"a","source":"s","data":{"product_id":"x"}}"#).await;
    assert_eq!(answer.json()["entries"][0]["stream"], "unstale:events:critical");
    assert_eq!(api.counts(), [1, 1]);
}

#[tokio::test]
async fn an_array_is_added_in_its_order() {
    let api = Api::start().await;
    let body = json!([{"type": "ProductUpdated", "product_id": 1}, {"type": "ProductRevoked", "product_id": 2}, {"type": "Unknown"},
        {"type": "ProductRevoked", "product_id": 3}]);
    let answer = api.post("/v1/events", &body.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let (critical, ordinary) = (api.entries("unstale:events:critical"), api.entries("unstale:events"));
    let entry = |stream: &str, entry: &(String, Vec<String>)| json!({"stream": stream, "id": entry.0});
    let expected = json!({"entries": [entry("unstale:events", &ordinary[0]), entry("unstale:events:critical", &critical[0]),
        entry("unstale:events", &ordinary[1]), entry("unstale:events:critical", &critical[1])]});
    assert_eq!(answer.json(), expected);
    assert!(critical[0].1.contains(&r#"{"product_id":2}"#.to_owned()), "{critical:?}");
    let empty = api.post("/v1/events", "[]").await;
    assert_eq!((empty.status, empty.json()), (202, json!({"entries": []})));
}

#[tokio::test]
async fn one_bad_element_and_nothing_is_added() {
    let api = Api::start().await;
    let good = r#"{"type":"ProductUpdated","product_id":1}"#;
    for (body, code, field) in [
        (format!("[{good},{good},{{\"id\":1}}]"), "undecodable", json!("[2].type")),
        (format!("[{good},{{\"type\":7}}]"), "undecodable", json!("[1].type")),
        (format!("[{good},{{\"type\":\"\"}}]"), "undecodable", json!("[1].type")),
        (format!("[{good},17]"), "undecodable", json!("[1]")),
        (format!("[{good},{{\"type\":\"A\",\"data\":1}}]"), "undecodable", json!("[1]")),
        (format!("[{good},{{\"type\":\"A\",\"KeyHash\":1,\"key_hash\":2}}]"), "conflicting_attribute", json!("[1]")),
        (format!("[{good},"), "not_json", NOWHERE),
        (format!("{good}{good}"), "not_json", NOWHERE),
        (r#"{"product_id":1}"#.to_owned(), "undecodable", json!("type")),
        ("7".to_owned(), "undecodable", NOWHERE),
    ] {
        assert_eq!(api.post("/v1/events", &body).await.refusal(), refused(400, code, field), "{body}");
    }
    let nothing =
        api.send("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 0\r\n", "").await;
    assert_eq!(nothing.refusal(), refused(400, "not_json", NOWHERE));
    assert_eq!(api.counts(), [0, 0]);
}

#[tokio::test]
async fn what_could_only_be_dead_lettered_is_named_and_nothing_is_added() {
    let api = Api::start().await;
    let body = json!([{"type": "ProductUpdated", "product_id": 1}, {"type": "ProductRevoked"}, {"type": "ProductRevoked", "product_id": "keep:1"}]);
    let answer = api.post("/v1/events", &body.to_string()).await;
    assert_eq!(answer.refusal(), refused(422, "missing_attribute", "[1]"));
    let each = answer.json()["error"]["refused"].clone();
    assert_eq!([&each[0]["field"], &each[0]["code"]], [&json!("[1]"), &json!("missing_attribute")]);
    assert_eq!([&each[1]["field"], &each[1]["code"]], [&json!("[2]"), &json!("refused_target")]);
    let long = json!({"type": "ProductUpdated", "product_id": 1, "note": "x".repeat(5000)});
    assert_eq!(api.post("/v1/events", &long.to_string()).await.refusal(), refused(422, "too_large", NOWHERE));
    assert_eq!(api.counts(), [0, 0]);
    assert_eq!(api.post("/v1/events", r#"{"type":"Half"}"#).await.status, 202, "a part of it can be carried out");
}

#[tokio::test]
async fn an_unrouted_event_is_added_unless_it_would_be_dead() {
    let api = Api::start().await;
    assert_eq!(api.post("/v1/events", r#"{"type":"Foreign"}"#).await.status, 202);
    let strict = Api::with(Rules { unrouted_is_dead: true, ..rules() }).await;
    assert_eq!(strict.post("/v1/events", r#"{"type":"Foreign"}"#).await.refusal(), refused(422, "unrouted", NOWHERE));
}

#[tokio::test]
async fn a_stream_that_takes_nothing_keeps_the_others_empty() {
    let api = Api::start().await;
    api.redis.cmd(&["SET", "unstale:events", "no stream"]);
    let body = json!([{"type": "ProductRevoked", "product_id": 1}, {"type": "ProductUpdated", "product_id": 2}]);
    assert_eq!(api.post("/v1/events", &body.to_string()).await.refusal(), refused(503, "wrong_type", NOWHERE));
    assert!(api.entries("unstale:events:critical").is_empty());
}

#[tokio::test]
async fn a_redis_without_memory_or_rights_takes_all_or_nothing() {
    let api = Api::start().await;
    let body = json!([{"type": "ProductRevoked", "product_id": 1}, {"type": "ProductUpdated", "product_id": 2}]).to_string();
    api.redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(api.post("/v1/events", &body).await.refusal(), refused(503, "out_of_memory", NOWHERE));
    api.redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]);
    api.redis.cmd(&["ACL", "SETUSER", "default", "resetkeys", "~unstale:events:critical"]);
    assert_eq!(api.post("/v1/events", &body).await.refusal(), refused(503, "missing_right", NOWHERE));
    api.redis.cmd(&["ACL", "SETUSER", "default", "allkeys"]);
    assert_eq!(api.counts(), [0, 0]);
}

#[tokio::test]
async fn without_redis_it_refuses_at_once_and_keeps_nothing() {
    let mut api = Api::start().await;
    let event = r#"{"type":"ProductUpdated","product_id":1}"#;
    api.redis.kill();
    let down = wait_until("the lost connection", PATIENCE, || async {
        let begun = Instant::now();
        let answer = api.post("/v1/events", event).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        if answer.status == 503 { Ok(answer) } else { Err(answer.body) }
    });
    let down = down.await;
    assert_eq!(down.refusal(), refused(503, "redis_down", NOWHERE));
    assert!(down.has("retry-after", "1"));
    assert_eq!(api.post("/v1/invalidate", r#"{"keys":["product:1"]}"#).await.refusal(), refused(503, "redis_down", NOWHERE));
    assert_eq!(api.post("/v1/events", r#"{"type":"ProductRevoked"}"#).await.status, 422, "what is wrong with it doesn't depend on Redis");
    api.redis.launch();
    api.redis.ready().await;
    wait_until("the next connection", PATIENCE, || async {
        let answer = api.post("/v1/events", event).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.body) }
    })
    .await;
    assert_eq!(api.counts(), [0, 1]);
}

#[tokio::test]
async fn an_invalidation_costs_one_entry_and_reads_back_as_asked() {
    let api = Api::start().await;
    let body = json!({"keys": ["product:1", "price:2"], "patterns": ["product:1:*"], "operation": "import", "later": true});
    let answer = api.post("/v1/invalidate", &body.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(api.counts(), [0, 1]);
    let (id, fields) = api.entries("unstale:events").remove(0);
    assert_eq!(answer.json(), json!({"entries": [{"stream": "unstale:events", "id": id}]}));
    assert_eq!(fields[..2], ["type", "CacheInvalidationRequested"]);
    let sent: Value = serde_json::from_str(&fields[3]).unwrap();
    assert_eq!(sent, json!({"keys": ["product:1", "price:2"], "patterns": ["product:1:*"], "operation": "import"}));
    let urgent = api.post("/v1/invalidate", r#"{"keys":["product:1"],"cache":"product","priority":"critical"}"#).await;
    assert_eq!(urgent.json()["entries"][0]["stream"], "unstale:events:critical");
}

#[tokio::test]
async fn a_bad_invalidation_names_its_field() {
    let api = Api::start().await;
    for (body, code, field) in [
        ("[]", "bad_body", NOWHERE),
        ("{", "bad_body", NOWHERE),
        ("{}", "no_targets", json!("keys")),
        (r#"{"keys":[],"patterns":null}"#, "no_targets", json!("keys")),
        (r#"{"keys":"product:1"}"#, "bad_type", json!("keys")),
        (r#"{"keys":["product:1",2]}"#, "bad_type", json!("keys[1]")),
        (r#"{"patterns":["product:*",""]}"#, "bad_type", json!("patterns[1]")),
        (r#"{"keys":["product:1"],"cache":1}"#, "bad_type", json!("cache")),
        (r#"{"keys":["product:1"],"operation":{}}"#, "bad_type", json!("operation")),
        (r#"{"keys":["product:1"],"priority":"urgent"}"#, "bad_priority", json!("priority")),
    ] {
        for path in ["/v1/invalidate", "/v1/invalidate?wait=deleted"] {
            assert_eq!(api.post(path, body).await.refusal(), refused(400, code, field.clone()), "{body}");
        }
    }
    assert_eq!(api.post("/v1/invalidate?wait=soon", r#"{"keys":["product:1"]}"#).await.refusal(), refused(400, "bad_wait", "wait"));
    assert_eq!(api.counts(), [0, 0]);
}

#[tokio::test]
async fn every_refused_target_is_named_and_nothing_is_done() {
    let mut api = Api::start().await;
    let body = json!({"keys": ["product:1", "session:1", "product:keep:1"], "patterns": ["*", "product:*", "unstale:*"]}).to_string();
    for path in ["/v1/invalidate", "/v1/invalidate?wait=deleted"] {
        let answer = api.post(path, &body).await;
        assert_eq!(answer.refusal(), refused(422, "refused_target", "keys[1]"));
        let each = answer.json()["error"]["refused"].clone();
        let named: Vec<_> =
            each.as_array().unwrap().iter().map(|one| (one["field"].as_str().unwrap(), one["target"].as_str().unwrap())).collect();
        assert_eq!(named, [("keys[1]", "session:1"), ("keys[2]", "product:keep:1"), ("patterns[0]", "*"), ("patterns[2]", "unstale:*")]);
    }
    let stranger = api.post("/v1/invalidate", r#"{"keys":["product:1"],"cache":"nobody"}"#).await;
    assert_eq!(stranger.refusal().0, 422);
    let other = api.post("/v1/invalidate", r#"{"keys":["product:1","price:1"],"cache":"price"}"#).await;
    assert_eq!(other.refusal(), refused(422, "refused_target", "keys[0]"));
    let many: Vec<_> = (0..21).map(|number| format!("product:{number}")).collect();
    assert_eq!(api.post("/v1/invalidate", &json!({"keys": many}).to_string()).await.refusal(), refused(422, "too_many_targets", NOWHERE));
    assert_eq!(api.counts(), [0, 0]);
    assert!(api.seat.waiting_request().is_none());
}

#[tokio::test]
async fn waiting_for_the_delete_asks_the_loop_and_leaves_the_stream_alone() {
    let mut api = Api::start().await;
    let address = api.address;
    let ask = move || {
        let head = "POST /v1/invalidate?wait=deleted HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        tokio::spawn(async move { send(address, head, r#"{"keys":["product:1"],"priority":"high","operation":"import"}"#).await })
    };
    let asked = ask();
    let invalidation = api.play_loop(Ok(DeliverReport { keys_deleted: 7, notice: None })).await;
    assert_eq!((invalidation.priority, invalidation.operation.as_deref()), (Priority::High, Some("import")));
    let targets: Vec<_> = invalidation.targets.iter().map(|target| (target.kind, target.text)).collect();
    assert_eq!(targets, [(TargetKind::Key, "product:1")]);
    let answer = asked.await.unwrap();
    let body = answer.json();
    assert_eq!((answer.status, &body["success"], &body["keys_deleted"]), (200, &json!(true), &json!(7)));
    assert!(body["duration_ms"].as_f64().is_some_and(|duration| duration >= 0.0), "{body}");
    for (error, code) in [
        (DeliverError::Busy, "busy"),
        (DeliverError::Draining, "draining"),
        (DeliverError::Failed("unreachable: gone".into()), "not_delivered"),
    ] {
        let asked = ask();
        api.play_loop(Err(error)).await;
        assert_eq!(asked.await.unwrap().refusal(), refused(503, code, NOWHERE));
    }
    assert_eq!(api.counts(), [0, 0]);
}

#[tokio::test]
async fn explain_says_what_would_be_done_and_does_nothing() {
    let api = Api::start().await;
    let answer = api.post("/v1/explain", r#"{"type":"ProductRevoked","product_id":5}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let expected = json!({"outcome": "routed", "priority": "critical", "stream": "unstale:events:critical",
        "targets": [{"cache": "product", "key": "product:5"}], "reasons": []});
    assert_eq!(answer.json(), expected);
    assert_eq!(api.post("/v1/explain", r#"{"type":"Foreign"}"#).await.json()["outcome"], "unrouted");
    assert_eq!(api.post("/v1/explain", r#"{"type":"ProductRevoked"}"#).await.json()["outcome"], "dead_letter");
    assert_eq!(api.post("/v1/explain", "{").await.refusal(), refused(400, "not_json", NOWHERE));
    assert_eq!(api.counts(), [0, 0]);
}

#[tokio::test]
async fn probes_tell_alive_from_ready_from_well() {
    let api = Api::start().await;
    let mut seen = Vec::new();
    let stages = [None, Some(Health { status: Status::Ok, reasons: vec![], ready: true }), Some(degraded(true)), Some(degraded(false))];
    for health in stages {
        if let Some(health) = health {
            api.seat.publish_health(health);
        }
        let mut row = Vec::new();
        for path in ["/healthz", "/readyz", "/healthz?strict=1", "/readyz?strict=1"] {
            row.push(api.get(path).await.status);
        }
        seen.push(row);
    }
    assert_eq!(seen, [[200, 503, 503, 503], [200, 200, 200, 200], [200, 200, 503, 503], [200, 503, 503, 503]]);
    let body = api.get("/healthz").await.json();
    assert_eq!(body, json!({"status": "degraded", "reasons": [{"code": "lag", "detail": "11 entries unread, above 10"}]}));
}

fn degraded(ready: bool) -> Health {
    let mut health = Health { status: Status::Ok, reasons: vec![], ready };
    health.add(Status::Degraded, "lag", "11 entries unread, above 10".into());
    health
}

#[tokio::test]
async fn a_loop_that_is_gone_is_not_healthy() {
    let Api { address, seat, server: _server, .. } = Api::start().await;
    drop(seat);
    let answer = send(address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("loop_stuck"), "{}", answer.body);
}

#[tokio::test]
async fn stats_and_metrics_show_what_the_loop_published() {
    let api = Api::start().await;
    let mut stats = Stats::clone(&api.handle.stats());
    stats.queued(unstale_events::CacheId(0), Priority::Critical, 3);
    api.seat.publish(&stats);
    let report = api.get("/v1/stats").await;
    assert!(report.has("content-type", "application/json"));
    let report = report.json();
    assert_eq!(report, serde_json::to_value(stats.report()).unwrap());
    assert_eq!((&report["totals"]["pending"], &report["caches"]["product"]["queued"]), (&json!(3), &json!(3)));
    let page = api.get("/metrics").await;
    assert!(page.has("content-type", "text/plain; version=0.0.4; charset=utf-8"), "{}", page.head);
    assert!(page.body.contains("unstale_targets_pending{cache=\"product\"} 3\n"));
    assert!(page.body.contains("unstale_targets_queued_total{cache=\"price\"} 0\n"));
    assert!(page.body.contains("unstale_events_total{type=\"CacheInvalidationRequested\",outcome=\"routed\"} 0\n"));
    assert!(page.body.contains("unstale_build_info{version=\"9.9.9\""));
    assert!(page.body.contains("\nprocess_resident_memory_bytes "));
}

#[tokio::test]
async fn the_probe_address_has_health_and_metrics_alone_for_any_host() {
    let api = Api::with(Rules { token: Some(Secret::new("s3cret")), ..rules() }).await;
    let probes = Server::start_probes(LOOPBACK, api.handle.clone()).await.unwrap();
    let get = async |path: &str| send(probes.address(), &format!("GET {path} HTTP/1.1\r\nHost: pod.example\r\n"), "").await;
    assert_eq!((get("/metrics").await.status, get("/healthz").await.status, get("/readyz").await.status), (200, 200, 503));
    for path in ["/", "/v1/stats", "/v1/events", "/v1/invalidate", "/v1/explain", "/v1/notices"] {
        assert_eq!(get(path).await.refusal(), refused(404, "not_found", NOWHERE), "{path}");
    }
}

#[tokio::test]
async fn beyond_loopback_it_needs_a_token() {
    let Api { redis, handle, .. } = Api::start().await;
    let start = async |token: Option<Secret>| {
        let publisher = Client::open(&Redis::new(redis.url().parse().unwrap()), Role::Commands, "http test").unwrap();
        let app = app(&redis, routes(), &handle, publisher, Rules { token, ..rules() });
        Server::start("0.0.0.0:0".parse().unwrap(), app).await
    };
    let refusal = start(None).await.unwrap_err().to_string();
    assert!(refusal.contains("http.token_file"), "{refusal}");
    let server = start(Some(Secret::new("s3cret"))).await.unwrap();
    assert_ne!(server.address().port(), 0);
    let taken = Server::start_probes(server.address(), handle.clone()).await.unwrap_err().to_string();
    assert!(taken.contains(&server.address().to_string()), "{taken}");
}

#[tokio::test]
async fn stopped_it_finishes_what_is_under_way_and_takes_no_more() {
    let mut api = Api::start().await;
    let address = api.address;
    let head = "POST /v1/invalidate?wait=deleted HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let under_way = tokio::spawn(async move { send(address, head, r#"{"keys":["product:1"]}"#).await });
    let deliver = api.asked().await;
    let stopping = tokio::spawn(api.server.stop());
    wait_until("the closed port", PATIENCE, || async {
        match TcpStream::connect(address).await {
            Ok(_) => Err("still open".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    deliver.reply.send(Ok(DeliverReport { keys_deleted: 1, notice: None })).unwrap();
    assert_eq!(under_way.await.unwrap().status, 200);
    stopping.await.unwrap();
}

#[test]
fn the_rules_are_those_of_the_configuration() {
    let mut config = crate::config::Config::default();
    let rules = Rules::new(&config).unwrap();
    assert_eq!((rules.body, rules.entry, rules.unrouted_is_dead, rules.token), (1 << 20, 1 << 20, false, None));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    config.http.token_file = Some(file.path().to_owned());
    assert_eq!(Rules::new(&config).unwrap().token, Some(Secret::new("s3cret")));
    config.http.token_file = Some("/nowhere/s3cret".into());
    assert!(!Rules::new(&config).unwrap_err().contains("s3cret"));
}

/// A stream of events that has begun.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    async fn open(api: &Api, path: &str, head: &str) -> Self {
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes()).await.unwrap();
        Self { stream, text: String::new() }
    }

    /// Reads on until a text has come; returns everything so far.
    async fn until(&mut self, wanted: &str) -> &str {
        while !self.text.contains(wanted) {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            let length = read.unwrap_or_else(|_| panic!("{wanted:?} never came: {}", self.text)).unwrap();
            assert!(length > 0, "it ended without {wanted:?}: {}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        &self.text
    }
}

fn announce(api: &Api, cache: &str) -> String {
    let notice = format!(r#"{{"v":1,"seq":1,"drop":[{{"cache":"{cache}","keys":["k"]}}]}}"#);
    api.redis.cmd(&["XADD", LOG, "*", "seq", "1", "notice", &notice]).text()
}

#[tokio::test]
async fn notices_are_events_of_a_stream() {
    let api = Api::start().await;
    let mut events = Events::open(&api, "/v1/notices", "Last-Event-ID: 0-0/0\r\n").await;
    let head = events.until("event: hello\nid: 0-0/0\ndata: {\"resumed\":true}\n\n").await.to_lowercase();
    for line in ["http/1.1 200 ok", "content-type: text/event-stream", "cache-control: no-store"] {
        assert!(head.contains(line), "{head}");
    }
    let id = announce(&api, "product");
    let frame = format!("event: drop\nid: {id}/1\ndata: {{\"v\":1,\"id\":\"{id}\",\"seq\":1,\"drop\":[{{\"cache\":\"product\",");
    events.until(&frame).await;
    let mut resumed = Events::open(&api, "/v1/notices?cache=price", "Last-Event-ID: 0-0/0\r\n").await;
    resumed.until("{\"resumed\":true}\n\n").await;
    resumed.until(&format!("event: beat\nid: {id}/1\ndata: {{}}\n\n")).await;
}

#[tokio::test]
async fn more_receivers_than_allowed_are_refused_until_one_goes() {
    let api = Api::start().await;
    let mut one = Events::open(&api, "/v1/notices", "").await;
    one.until("event: hello").await;
    let mut other = Events::open(&api, "/v1/notices", "").await;
    other.until("event: hello").await;
    let refusal = api.get("/v1/notices").await;
    assert_eq!(refusal.refusal(), refused(503, "too_many_subscribers", NOWHERE));
    assert!(refusal.body.contains("http.subscribers") && refusal.has("retry-after", "1"), "{}", refusal.body);
    drop(one);
    wait_until("a place to be free", PATIENCE, async || {
        let mut next = Events::open(&api, "/v1/notices", "").await;
        let head = next.until("\r\n\r\n").await.to_owned();
        if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(head) }
    })
    .await;
}

#[tokio::test]
async fn who_may_not_ask_may_not_listen() {
    let api = Api::start().await;
    let asked = async |head: &str| api.send(&format!("GET /v1/notices HTTP/1.1\r\n{head}"), "").await.refusal();
    assert_eq!(asked("Host: evil.example\r\n").await, refused(403, "bad_host", NOWHERE));
    assert_eq!(asked("Host: localhost\r\nOrigin: http://evil.example\r\n").await, refused(403, "bad_origin", NOWHERE));
    assert_eq!(api.post("/v1/notices", "{}").await.refusal(), refused(405, "method_not_allowed", NOWHERE));
}
