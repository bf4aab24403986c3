//! Every kind of installation that a URL can name, by TLS where the server has it, and always with the least rights: `check` finds nothing
//! wrong and names what is, events are worked off, also after a failover, and renewed passwords and certificates are taken.

use unstale_testkit::{Certificates, Cluster, Redis, Sentinels, now, server_has_tls, wait_until_sync};
use unstale_tests::{Bus, Installation, PATIENCE, Setup, Sidecar, THINGS};

/// The ids have a hash tag, so that on a cluster all keys are where the bus is.
const SWEPT: &str = r#"
[[route]]
event = "Swept"
cache = "thing"
patterns = ["thing:{id}*"]
bump = ["thing:epoch"]
"#;

const NAMESPACE: &str = "{unstale}";

/// How many events of a kind.
const COUNT: usize = 20;

/// A sidecar with routes for all of these events.
fn setup(installation: &impl Installation) -> Setup {
    Setup::on(installation).config(THINGS).config(SWEPT)
}

fn id(kind: &str, number: usize) -> String {
    format!("{NAMESPACE}:{kind}:{number}")
}

/// A sidecar that does all it has to, after `check` found nothing wrong.
fn works(setup: Setup, installation: &impl Installation, bus: &mut Bus) -> Sidecar {
    let setup = setup.namespace(NAMESPACE).set("redis.main.connect_timeout=5s").granted();
    check(&setup, 0, &["all rights are there"]);
    named_if_missing(&setup, installation, "+xadd");
    let mut sidecar = setup.spawn();
    sidecar.ready(bus);
    flows(bus, &sidecar);
    for server in installation.servers() {
        let refused: Vec<_> = server.cmd(&["ACL", "LOG"]).array().iter().filter_map(|entry| entry.field("object").cloned()).collect();
        assert!(refused.iter().all(|object| object.text() == "xadd"), "refused: {refused:?}");
    }
    sidecar
}

/// Every right but this one is there.
fn named_if_missing(setup: &Setup, installation: &impl Installation, right: &str) {
    let change = |rule: &str| {
        for server in installation.servers() {
            server.cmd(&["ACL", "SETUSER", setup.name(), rule]);
        }
    };
    change(&right.replace('+', "-"));
    check(setup, 1, &["the user lacks 1 of its rights", right]);
    change(right);
}

#[track_caller]
fn check(setup: &Setup, code: i32, texts: &[&str]) {
    let checked = setup.run(&["check"]);
    let told = format!("{}{}", checked.out, checked.err);
    assert!(checked.code == Some(code) && texts.iter().all(|text| told.contains(text)), "{:?}, expected {texts:?}\n{told}", checked.code);
}

/// Events of every kind are worked off; one that can't be goes to the dead letters; whoever waits everywhere is answered.
#[track_caller]
fn flows(bus: &mut Bus, sidecar: &Sidecar) {
    let (before, letters) = (bus.notices().len(), bus.dead_letters().len());
    bus.seed(["changed", "revoked", "swept"].iter().flat_map(|kind| (0..COUNT).map(|number| format!("thing:{}", id(kind, number)))));
    for number in 0..COUNT {
        bus.publish("Changed", &[("id", &id("changed", number))]);
        bus.publish_critical("Revoked", &[("id", &id("revoked", number))]);
    }
    bus.publish("Swept", &[("id", &format!("{NAMESPACE}:swept:"))]);
    bus.publish("Changed", &[]);
    bus.wait_settled();
    let left: Vec<String> = bus.keys().into_iter().filter(|key| key.contains(NAMESPACE)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(bus.notices().len() > before && bus.dead_letters().len() == letters + 1);
    let (status, answer) = sidecar.post("/v1/invalidate?wait=everywhere&timeout=20s", &serde_json::json!({ "keys": ["thing:x"] }));
    assert_eq!(status, 200, "{answer}");
    let (_, health) = sidecar.get("/healthz");
    assert!(!health.contains("missing_right"), "{health}");
}

/// The same at the new master, once the sidecar is there.
#[track_caller]
fn flows_at(master: &Redis, sidecar: &Sidecar) {
    let mut bus = bus(master);
    wait_until_sync("the sidecar to be at the new master", PATIENCE, || bus.instance(sidecar.name()).and_then(|_| bus.reader()));
    flows(&mut bus, sidecar);
}

fn bus(server: &Redis) -> Bus {
    Bus::new(server).in_namespace(NAMESPACE)
}

/// Certificates, if the server can use them.
fn certificates() -> Option<Certificates> {
    server_has_tls().then(Certificates::new)
}

fn with_tls(setup: Setup, files: Option<&Certificates>) -> Setup {
    match files {
        Some(files) => setup.tls("main", files),
        None => setup,
    }
}

/// A server that shows a certificate, and wants to see one.
fn server(files: &Certificates) -> Redis {
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| files.path(name));
    Redis::builder().tls(&cert, &key, Some(&ca)).start_sync()
}

#[test]
fn a_server_by_tls_and_a_database() {
    if !server_has_tls() {
        return;
    }
    let files = Certificates::new();
    let redis = server(&files);
    let mut bus = bus(&redis).in_database(3);
    let setup = setup(&redis).url(format!("{}/3", redis.url())).tls("main", &files);
    let sidecar = works(setup, &redis, &mut bus);
    if redis.version() < (7, 0) {
        eprintln!("skipped: this server takes its certificate and its key one after the other, and neither without the other");
        return;
    }
    // Another authority, and new certificates for both sides.
    files.renew(&Certificates::new());
    let file = |name: &str| files.path(name).display().to_string();
    let config = [("tls-cert-file", file("server.pem")), ("tls-key-file", file("server.key")), ("tls-ca-cert-file", file("ca.pem"))];
    let words = ["CONFIG", "SET"].map(str::to_owned).into_iter().chain(config.into_iter().flat_map(|(name, file)| [name.to_owned(), file]));
    redis.cmd(&words.collect::<Vec<_>>());
    reconnected(&sidecar, &redis);
    flows(&mut bus, &sidecar);
}

/// Ends all connections of a sidecar and waits until they are made again.
#[track_caller]
fn reconnected(sidecar: &Sidecar, redis: &Redis) {
    let ids = || redis.cmd(&["CLIENT", "LIST"]).text().lines().filter(|line| line.contains("name=unstale:")).map(id_of).collect::<Vec<_>>();
    let before = ids();
    redis.cmd(&["CLIENT", "KILL", "USER", sidecar.name()]);
    wait_until_sync("the connections to be made again", PATIENCE, || {
        let now = ids();
        let is_new = now.len() == before.len() && now.iter().all(|id| !before.contains(id));
        if is_new { Ok(()) } else { Err(format!("{before:?}, now {now:?}\n{}", sidecar.log())) }
    });
}

fn id_of(client: &str) -> String {
    client.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_server_that_can_not_be_trusted_is_refused_and_what_to_do_is_told() {
    if !server_has_tls() {
        return;
    }
    let (files, other, elsewhere) = (Certificates::new(), Certificates::new(), Certificates::naming(&["redis.example"]));
    let (redis, named) = (server(&files), server(&elsewhere));
    let path = |files: &Certificates, name: &str| files.path(name).display().to_string();
    let setup = |redis: &Redis| setup(redis).set("redis.main.connect_timeout=5s");
    let of_another = setup(&redis).tls("main", &files).redis("main", "ca", &path(&other, "ca.pem"));
    let nobody = setup(&redis).redis("main", "ca", &path(&files, "ca.pem"));
    let stranger = setup(&redis).tls("main", &other).redis("main", "ca", &path(&files, "ca.pem"));
    let misnamed = setup(&named).tls("main", &elsewhere);
    for (setup, told) in [
        (of_another, "let `ca` name that authority's PEM file"),
        (nobody, "it wants to see a certificate: let `cert` and `key` name one"),
        (stranger, "it doesn't trust our certificate: let `cert` and `key` name one"),
        (misnamed, "Write such a name into `url`"),
    ] {
        let setup = setup.granted();
        check(&setup, 1, &["can't use rediss://", told, "see `ca`, `cert` and `key` under `[redis.main]`"]);
        // It goes on trying, and says the same.
        let mut sidecar = setup.spawn();
        sidecar.wait_log(told);
        assert!(sidecar.ended().is_none());
        assert!(sidecar.get("/healthz").1.contains("redis_down"));
    }
}

#[test]
fn a_database_and_a_password_that_changes() {
    let redis = Redis::start_sync();
    let mut bus = bus(&redis).in_database(3);
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("renewed");
    std::fs::write(&file, "secret\n").expect("a temporary file can be written");
    let setup = setup(&redis).url(format!("{}/3", redis.url())).namespace(NAMESPACE).granted();
    let mut sidecar = setup.redis("main", "password_file", &file.display().to_string()).spawn();
    sidecar.ready(&mut bus);
    flows(&mut bus, &sidecar);
    redis.cmd(&["ACL", "SETUSER", sidecar.name(), "resetpass", ">renewed"]);
    redis.cmd(&["CLIENT", "KILL", "USER", sidecar.name()]);
    wait_until_sync("health to name the password", PATIENCE, || {
        let (_, body) = sidecar.get("/healthz");
        if body.contains("WRONGPASS") { Ok(()) } else { Err(body) }
    });
    std::fs::write(&file, "renewed\n").expect("a temporary file can be written");
    flows(&mut bus, &sidecar);
}

#[test]
fn a_unix_socket_and_a_database() {
    let redis = Redis::builder().unix().start_sync();
    let mut bus = bus(&redis).in_database(2);
    let url = format!("unix://{}?db=2", redis.socket().display());
    works(setup(&redis).url(url), &redis, &mut bus);
}

#[test]
fn sentinels() {
    let files = certificates();
    let mut builder = Sentinels::builder(1);
    if let Some(files) = &files {
        builder = builder.tls(&files.path("server.pem"), &files.path("server.key"), &files.path("ca.pem"));
    }
    let all = now(builder.start());
    let of_all = with_tls(setup(&all), files.as_ref());
    let sidecar = works(of_all, &all, &mut bus(all.server(all.master())));
    let master = now(all.fail_over());
    flows_at(all.server(master), &sidecar);

    // What the sentinels refuse is told, and that they have users of their own.
    let setup = with_tls(setup(&all), files.as_ref()).granted();
    let change = |rule: &str| all.sentinels().iter().for_each(|sentinel| drop(sentinel.cmd(&["ACL", "SETUSER", setup.name(), rule])));
    change("-@all");
    check(&setup, 1, &["no sentinel tells where the master is", "NOPERM", "unstale check --acl"]);
    change("resetpass");
    check(&setup, 1, &["no sentinel tells where the master is", "WRONGPASS", "sentinel_password_file"]);
}

#[test]
fn a_cluster() {
    let files = certificates();
    let mut builder = Cluster::builder(3, 1);
    if let Some(files) = &files {
        builder = builder.tls(&files.path("server.pem"), &files.path("server.key"), &files.path("ca.pem"));
    }
    let cluster = now(builder.start());
    let key = format!("{NAMESPACE}:events");
    let setup = with_tls(setup(&cluster), files.as_ref());
    let owner = cluster.owner_of(&key);
    let sidecar = works(setup, &cluster, &mut bus(cluster.node(owner)));
    let owner = now(cluster.fail_over(owner));
    flows_at(cluster.node(owner), &sidecar);
}
