//! A real browser: Debian's Chromium without a window, steered over `WebDriver`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// Chromium asks nobody but the page's own server.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// One at a time: a browser takes more of a small machine than all else that tests start.
static ONE: Mutex<()> = Mutex::new(());

/// A browser with one page; ended with the test.
pub struct Browser {
    driver: Child,
    session: String,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts one with a window of this size.
    ///
    /// # Panics
    /// If `chromedriver` or `chromium` isn't installed, or doesn't start.
    pub fn start(width: u32, height: u32) -> Self {
        // A test that failed while it had the browser has ended it.
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new("chromedriver");
        let driver = command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = driver.expect("chromedriver starts: `cargo xtask test` installs it, or `apt-get install chromium-driver`");
        let port = port(&mut driver);
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}/session"), _turn: turn };
        let options = json!({ "args": FLAGS });
        let wanted = json!({ "alwaysMatch": { "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } } });
        let made = browser.ask("", &json!({ "capabilities": wanted }));
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().expect("a session"));
        browser.cdp(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
        browser
    }

    /// Goes to a page, and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Presses keys, as a person would: they go to what has the focus.
    pub fn press(&self, keys: &str) {
        let presses = keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })));
        let actions = presses.collect::<Vec<_>>();
        self.ask("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }));
    }

    /// Whether the system is dark, as the page is told.
    pub fn prefer(&self, scheme: &str) {
        self.cdp("Emulation.setEmulatedMedia", &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }));
    }

    /// What the console has, errors of the page and refusals of its policy among it.
    pub fn console(&self) -> Vec<String> {
        let log = self.ask("/se/log", &json!({ "type": "browser" }));
        log.as_array().into_iter().flatten().map(|line| line["message"].to_string()).collect()
    }

    fn cdp(&self, command: &str, params: &Value) {
        self.ask("/goog/cdp/execute", &json!({ "cmd": command, "params": params }));
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
        let mut answer = agent.post(format!("{}{path}", self.session)).send_json(body).expect("chromedriver answers");
        let json: Value = answer.body_mut().read_json().expect("chromedriver answers in JSON");
        assert!(answer.status().is_success(), "{path}: {json}");
        json["value"].clone()
    }
}

/// Chromedriver says which port it took.
fn port(driver: &mut Child) -> String {
    let out = BufReader::new(driver.stdout.take().expect("a pipe"));
    let line = out.lines().map_while(Result::ok).find(|line| line.contains("successfully on port")).expect("chromedriver listens");
    line.rsplit(' ').next().unwrap_or_default().trim_end_matches('.').to_owned()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; without this it would outlive its driver.
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
