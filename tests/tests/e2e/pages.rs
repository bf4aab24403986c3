//! What README and the pages of `docs/` tell a reader to do, done: every block for a shell, and the programs that are whole. Those of `docs/systems` are run by
//! the conformance tests; that configurations are accepted, and that every block is what it says, the program's own tests of the pages hold.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::pages::{self, Desk};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar, World, scripts};

/// Blocks for a shell that aren't run here, by how they begin, and why.
const ELSEWHERE: [(&str, &str); 8] = [
    ("cargo build", "these tests run what it builds"),
    ("cargo run", "a benchmark, for minutes"),
    ("cargo xtask", "the project's own commands, for minutes; that there are such, the program's tests of the pages hold"),
    ("docker run", "wants an engine and an image: `cargo xtask image --check` runs it"),
    ("install -m", "writes to the system: `deploy::` has systemd look at the unit"),
    ("promtool", "`prometheus::` runs the same"),
    ("source <(", "the program's tests of its tools read both"),
    ("unstale run\n", "the sidecar of the test"),
];

fn is_elsewhere(text: &str) -> bool {
    ELSEWHERE.iter().any(|(start, _)| format!("{text}\n").starts_with(start))
}

/// The routes that README adds to those of the preset: what all pages speak of.
fn routes() -> String {
    let readme = pages::read("README.md");
    format!("presets = [\"llm-gateway\"]\n{}", pages::first(&pages::blocks(&readme), "toml"))
}

/// A world in which everything is there that pages speak of.
fn world() -> (World, Desk) {
    let mut world = World::start(&routes());
    let desk = Desk::at(&world.redis).beside(&world.sidecar.http());
    desk.put("unstale.toml", &routes());
    desk.put("cases.jsonl", r#"{"event":{"type":"ProductUpdated","product_id":7},"expect":{"priority":"normal"}}"#);
    let letter = |id: &str, kind: &str, reason: &str| {
        let from = ["dead_reason", reason, "dead_stream", "unstale:events"];
        let fields = ["XADD", "unstale:events:dead", id, "type", kind, "product_id", "7"];
        fields.iter().chain(&from).map(ToString::to_string).collect::<Vec<_>>()
    };
    world.cmd(&letter("1795644691334-0", "ProductUpdated", "missing_attribute: it has been mended since"));
    world.cmd(&letter("1795644691334-1", "ProductUpdated", "refused_target: prefixes have been mended since"));
    world.cmd(&letter("1795644691334-2", "OldEvent", "unrouted: nobody names it"));
    (world, desk)
}

#[test]
fn every_command_shown_is_run() {
    let mut run = 0;
    let mut left: Vec<&str> = ELSEWHERE.iter().map(|(start, _)| *start).collect();
    // Those whose steps build on each other have tests of their own.
    for path in pages::all().into_iter().filter(|path| !["docs/quick-start.md", "README.md"].contains(&path.as_str())) {
        let page = pages::read(&path);
        let commands: Vec<&str> =
            pages::blocks(&page).into_iter().filter(|(language, _)| *language == "sh").map(|(_, text)| text).collect();
        left.retain(|start| !commands.iter().any(|text| format!("{text}\n").starts_with(start)));
        let here: Vec<&str> = commands.into_iter().filter(|text| !is_elsewhere(text)).collect();
        if here.is_empty() {
            continue;
        }
        let (mut world, desk) = world();
        for text in &here {
            desk.shell(text);
            world.wait_done();
        }
        run += here.len();
    }
    assert!(run > 20, "only {run} blocks were run");
    assert_eq!(left, ["cargo build", "unstale run\n"], "nothing begins like this any more");
}

#[test]
fn the_quick_start_goes_as_it_says() {
    let page = pages::read("docs/quick-start.md");
    let blocks = pages::blocks(&page);
    let config = pages::first(&blocks, "toml");
    let redis = Redis::start_sync();
    let mut desk = Desk::at(&redis);
    desk.put("unstale.toml", config);
    let mut bus = Bus::new(&redis);
    let mut sidecar: Option<Sidecar> = None;
    let mut outputs = 0;
    for (at, (_, text)) in blocks.iter().enumerate().filter(|(_, (language, _))| *language == "sh") {
        if *text == "unstale run" {
            let started = Setup::on(&redis).config(config).start(&redis);
            desk = desk.beside(&started.http());
            sidecar = Some(started);
        } else if !is_elsewhere(text) {
            let printed = desk.shell(text);
            if let Some(("", shown)) = blocks.get(at + 1) {
                assert_eq!(printed.trim_end(), *shown, "{text}");
                outputs += 1;
            }
        }
        if sidecar.is_some() {
            bus.wait_done();
        }
    }
    assert!(sidecar.is_some());
    assert_eq!(outputs, 3);
}

#[test]
fn the_readme_does_what_it_says() {
    let page = pages::read("README.md");
    let blocks = pages::blocks(&page);
    let mut world = World::start(&routes());
    let desk = Desk::at(&world.redis).beside(&world.sidecar.http());
    let mut published = 0;
    for (language, text) in blocks {
        world.seed(["vkey:3f7a"]);
        match language {
            "toml" => desk.put("unstale.toml", text),
            "sh" if !is_elsewhere(text) => drop(desk.shell(text)),
            "python" => drop(desk.python(text)),
            "js" => node(&desk.located(text)),
            _ => continue,
        }
        if text.to_lowercase().contains("xadd ") || text.contains("xadd(") {
            published += 1;
            world.wait_done();
            assert_eq!(world.keys(), [].into(), "the event deletes what it names:\n{text}");
        }
    }
    assert_eq!(published, 4);
    assert_eq!(world.dead_letters(), []);
}

/// A script that ends by itself, and finds packages.
fn node(text: &str) {
    let output = Command::new("node").args(["--eval", text]).current_dir(scripts::node_modules()).output();
    let output = output.unwrap_or_else(|error| panic!("node: {error}"));
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// An API of the quick start, ended with the test.
struct Api {
    child: Child,
    url: String,
}

impl Api {
    fn start(port: u16, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let api = Self { child, url: format!("http://127.0.0.1:{port}/products/7") };
        wait_until_sync("the API", PATIENCE, || api.read().map(drop));
        api
    }

    fn read(&self) -> Result<String, String> {
        ureq::get(&self.url).call().and_then(|mut answer| answer.body_mut().read_json()).map_err(|error| error.to_string())
    }

    fn change(&self, name: &str) {
        ureq::put(&self.url).query("name", name).send_empty().expect("a row can be changed");
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An API of the quick start: both of its caches keep what they have, and a change is seen.
fn api_keeps_fresh(language: &str, start: impl Fn(&Desk, &str, u16) -> Api) {
    let page = pages::read("docs/quick-start.md");
    let blocks = pages::blocks(&page);
    let mut world = World::start(pages::first(&blocks, "toml"));
    let desk = Desk::at(&world.redis).beside(&world.sidecar.http());
    // It doesn't tell which port it took, so one is chosen that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").port();
    let api = start(&desk, pages::first(&blocks, language), port);
    let mut turn = 0;
    wait_until_sync("a value to be kept in the process", PATIENCE, || {
        turn += 1;
        let mut answer = |value: String| {
            world.cmd(&["SET", "product:7", &value]);
            api.read()
        };
        let (one, other) = (answer(format!("{turn}"))?, answer(format!("{turn} again"))?);
        if one == other { Ok(()) } else { Err(format!("{one}, then {other}")) }
    });
    api.change("new");
    wait_until_sync("the change", PATIENCE, || match api.read()? {
        answer if answer == "new" => Ok(()),
        answer => Err(answer),
    });
    world.wait_done();
    assert_eq!(world.dead_letters(), []);
}

/// The page's text with the sidecar of this test, which isn't at its usual place.
#[track_caller]
fn told(text: &str, before: &str, more: &str) -> String {
    assert!(text.contains(before), "{text}");
    text.replace(before, &format!("{before}{more}"))
}

#[test]
fn the_api_with_fastapi_keeps_fresh() {
    api_keeps_fresh("python", |desk, text, port| {
        desk.put("api.py", &desk.located(&told(text, "ttl=300), ", "port=7863, ")));
        let mut command = Command::new(scripts::python());
        command.args(["-m", "uvicorn", "api:app", "--log-level", "warning", "--port", &port.to_string()]);
        Api::start(port, command.current_dir(desk.dir()).env("PYTHONPATH", pages::root().join("docs/receivers/python")))
    });
}

#[test]
fn the_api_with_express_keeps_fresh() {
    api_keeps_fresh("js", |desk, text, port| {
        let text = told(text, "ttl: 300_000 }), { ", "address: 'http://127.0.0.1:7863', ");
        desk.put("api.mjs", &desk.located(&text).replace("listen(8000)", &format!("listen({port})")));
        let receiver = "unstale-receiver.mjs";
        fs::copy(pages::root().join("docs/receivers/node").join(receiver), desk.dir().join(receiver)).expect("the receiver is copied");
        symlink(scripts::node_modules().join("node_modules"), desk.dir().join("node_modules")).expect("the packages are near");
        Api::start(port, Command::new("node").arg("api.mjs").current_dir(desk.dir()))
    });
}
