//! The live page in a real browser, above a real sidecar.

use serde_json::{Value, json};
use unstale_testkit::wait_until_sync;
use unstale_tests::{Browser, PATIENCE, World};

const ROUTES: &str = r#"
[cache.product]
prefixes = ["product:"]
[[route]]
event = "ProductUpdated"
cache = "product"
keys = ["product:{product_id}"]
"#;
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// A page that has shown numbers.
struct Page {
    browser: Browser,
    world: World,
}

impl Page {
    fn open(world: World) -> Self {
        let page = Self { browser: Browser::start(1280, 1500), world };
        page.browser.open(&format!("{}/", page.world.sidecar.http()));
        page
    }

    fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        self.browser.run(&script).as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn shows(&self, selector: &str, part: &str) {
        wait_until_sync(&format!("{part:?} in {selector}"), PATIENCE, || match self.text(selector) {
            text if text.contains(part) => Ok(()),
            text => Err(format!("{text}; console: {:?}", self.browser.console())),
        });
    }

    /// Presses Tab until this has the focus.
    #[track_caller]
    fn tab_to(&self, label: &str) {
        for _ in 0..40 {
            self.browser.press(TAB);
            let focused = self.browser.run("const e = document.activeElement; return e.getAttribute('aria-label') || e.innerText");
            if focused.as_str().is_some_and(|text| text.starts_with(label)) {
                return;
            }
        }
        panic!("Tab never reaches {label:?}");
    }
}

#[test]
fn it_shows_what_happens_without_a_word_of_a_key() {
    let mut page = Page::open(World::start(ROUTES));
    page.shows("#status", "ok");
    page.world.seed(["product:s3cret"]);
    page.world.publish("ProductUpdated", &[("product_id", "s3cret"), ("correlation_id", "order-<b>7</b>")]);
    page.shows("#caches", "product");
    page.shows("#notices", "order-<b>7</b>");
    page.shows("#tile-deleted small", "1 since start");
    page.shows("#instances", "reads");
    page.shows("#streams", "unstale:events");
    let html = page.browser.run("return document.documentElement.outerHTML").to_string();
    assert!(!html.contains("s3cret"), "{html}");
    assert_eq!(page.browser.console(), [""; 0], "the page keeps to its own policy, and nothing fails");
}

#[test]
fn a_dead_letter_is_given_back_and_dropped_by_keyboard_alone() {
    let mut page = Page::open(World::start(ROUTES));
    page.world.seed(["product:7"]);
    let letter = |id| {
        [
            "XADD",
            "unstale:events:dead",
            id,
            "type",
            "ProductUpdated",
            "product_id",
            "7",
            "dead_reason",
            "command_failed: <i>mended</i>",
            "dead_stream",
            "unstale:events",
        ]
    };
    page.world.cmd(&letter("9-1"));
    page.shows("#dead", "command_failed: <i>mended</i>");
    page.tab_to("Replay dead letter 9-1");
    page.browser.press(ENTER);
    page.shows("#done", "9-1 is in its stream again");
    page.world.wait_settled();
    assert_eq!(page.world.keys(), [].into());
    page.shows("#dead", "none");
    page.world.cmd(&letter("9-2"));
    page.shows("#dead", "command_failed");
    page.tab_to("Drop dead letter 9-2");
    page.browser.press(ENTER);
    page.shows("#dead", "Sure?");
    assert_eq!(page.world.cmd(&["XLEN", "unstale:events:dead"]).int(), 1, "one press drops nothing");
    page.browser.press(ENTER);
    page.shows("#done", "9-2 was dropped");
    assert_eq!(page.world.cmd(&["XLEN", "unstale:events:dead"]).int(), 0);
}

#[test]
fn it_says_what_is_wrong_and_that_nobody_answers() {
    let mut page = Page::open(World::start(ROUTES));
    page.shows("#status", "ok");
    page.world.redis.kill();
    page.shows("#status", "unhealthy");
    page.shows("#reasons", "has been down for");
    page.shows("#links", "down");
    page.world.sidecar.kill();
    page.shows("#status", "no answer");
    page.shows("#reasons", "The sidecar doesn't answer");
}

#[test]
fn it_asks_for_the_token_that_the_sidecar_wants() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret").unwrap();
    let setting = format!("http.token_file={}", file.path().display());
    let page = Page::open(World::with(|setup| setup.config(ROUTES).set(&setting)));
    page.shows("#status", "locked");
    page.browser.run("document.getElementById('token').focus()");
    page.browser.press("s3cret");
    page.browser.press(ENTER);
    page.shows("#status", "ok");
    page.shows("#lanes", "critical");
}

#[test]
fn it_can_be_read_by_everybody() {
    let page = Page::open(World::start(ROUTES));
    page.shows("#instances", "reads");
    for scheme in ["light", "dark"] {
        page.browser.prefer(scheme);
        let faint = page.browser.run(CONTRAST);
        assert_eq!(faint, json!([]), "in {scheme}: texts with too little contrast (WCAG AA wants 4.5)");
    }
    let unnamed = page.browser.run(
        "return [...document.querySelectorAll('button, input, table, section, [tabindex=\"0\"]')].filter((e) => !e.closest('[hidden]') && !(\
         e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length || e.innerText)).map((e) => e.outerHTML)",
    );
    assert_eq!(unnamed, json!([]), "everything that one can come to has a name");
    let headed = page.browser.run("return [...document.querySelectorAll('table')].every((t) => t.tHead && [...t.tHead.rows[0].cells].every((c) => c.scope === 'col'))");
    assert_eq!(headed, Value::Bool(true));
}

/// Every text whose colour is too near to what is behind it.
const CONTRAST: &str = r"
const parse = (color) => color.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
const found = [];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length || e.closest('.skip, noscript')) continue;
  const style = getComputedStyle(e), back = ground(e), alpha = Number(style.opacity);
  const ink = parse(style.color).slice(0, 3).map((c, i) => c * alpha + back[i] * (1 - alpha));
  const [a, b] = [light(ink), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return found;";
