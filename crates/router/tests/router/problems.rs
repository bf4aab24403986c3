//! The messages for mistakes: all at once, each at its line, and what would be right.

use unstale_router::{Input, Override, Problems, compile, suggest};

use crate::support::{input, problems};

/// `line: message → help` of each problem.
fn lines(toml: &str, problems: &Problems) -> Vec<String> {
    let line = |at: usize| toml[..at].matches('\n').count() + 1;
    let show = |problem: &unstale_router::Problem| {
        assert_eq!(problem.source, "unstale.toml");
        let at = problem.span.as_ref().expect("a place").start;
        format!("{}: {} → {}", line(at), problem.message, problem.help.as_deref().unwrap_or_default())
    };
    problems.iter().map(show).collect()
}

#[track_caller]
fn check(toml: &str, expected: &[&str]) {
    assert_eq!(lines(toml, &problems(toml)), expected);
}

/// One problem in a route of cache `c` (prefix `c:`), whose caret marks `marked`.
#[track_caller]
fn one(route: &str, message: &str, marked: &str) {
    let toml = format!("[cache.c]\nprefixes = [\"c:\"]\n[[route]]\nevent = \"E\"\ncache = \"c\"\n{route}\n");
    let problems = problems(&toml);
    let all: Vec<_> = problems.iter().collect();
    assert_eq!(all.len(), 1, "{problems}");
    assert_eq!(all[0].message, message);
    assert_eq!(&toml[all[0].span.clone().expect("a place")], marked, "{problems}");
    assert!(all[0].help.is_some());
}

#[test]
fn all_mistakes_are_reported_at_once() {
    check(
        r#"presets = ["llm-gatway", "model-catalog", 3]
protected = ["", "a*b", "ok:"]
[vars]
app = "app:"
bad = 3
[preset.subscription-plans]
vars = { x = "x" }
[preset.model-catalog]
vars = { nope = "x" }
without = ["ModelSyncComplete"]
extra = 1
cache.auht.second_delete = "1s"
cache.account.second_delete = "fast"
[cache.product]
prefixes = ["product:", "pro*:"]
second_delete = 500
storage = "local"
[cache.account]
prefixes = ["acc:"]
[cache.none]
[cache.two]
prefixes = []
[cache.dup]
prefixes = ["db:", "unstale:x"]
store = "lokal"
redis = "other"
[[route]]
event = "A"
cache = "prodct"
priority = "hihg"
keys = ["product:{id", "${apq}x", 7]
[[route]]
key = ["product:x"]
[[republish]]
cache = "product"
chanel = "x"
format = "yaml"
[[republish]]
channel = "unstale:notices"
format = "key"
fields = { keys = "x" }
"#,
        &[
            "1: unknown preset `llm-gatway` → did you mean `llm-gateway`?",
            "1: an element of presets must be a string, but is an integer → write `presets = [\"llm-gateway\"]`",
            "2: a protected prefix is empty: every key would begin with it → write the beginning of the keys, such as `product:`",
            "2: a protected prefix is text, not a glob → write the beginning alone: `a`",
            "5: `bad` must be a string, but is an integer → write `bad = \"text\"`",
            "6: settings for preset `subscription-plans`, which is not in use → add it: presets = [\"subscription-plans\"]; in use: `model-catalog` (unstale.toml)",
            "9: preset `model-catalog` has no variable `nope` → there are none",
            "10: preset `model-catalog` has no route for event `ModelSyncComplete` → did you mean `ModelSyncCompleted`?",
            "11: unknown setting `extra` in `[preset.model-catalog]` → known are `vars`, `without`, `cache`",
            "12: preset `model-catalog` has no cache `auht` → did you mean `auth`?",
            "13: `fast` is no duration: expected number at 0 → write a number with its unit: `500ms`, `1s`, `0s` for off",
            "15: a cache's prefix is text, not a glob → write the beginning alone: `pro`",
            "16: `second_delete` must be a string, but is an integer → write `second_delete = \"500ms\"`",
            "17: unknown setting `storage` in `[cache.product]` → did you mean `store`?",
            "18: cache `account` is declared twice, first in preset model-catalog → name this one otherwise; single settings of a preset's cache are changed under `[preset.NAME.cache.account]`",
            "20: cache `none` owns no key prefix → write `prefixes = [\"none:\"]`",
            "22: cache `two` owns no key prefix → write `prefixes = [\"two:\"]`",
            "24: prefix `db:` is declared by cache `account` too → a prefix has one owner; prefixes may nest, then the longest owns the key",
            "24: `unstale:x` lies among this sidecar's own keys (namespace `unstale`) → choose another `namespace` for the sidecar's own keys, or another prefix for the cache",
            "25: unknown store `lokal` → did you mean `local`?",
            "26: no server `[redis.other]` → known are `main`",
            "29: unknown cache `prodct` → did you mean `product`?",
            "30: unknown priority `hihg` → did you mean `high`?",
            "31: a `{` that is never closed → close the placeholder with `}`, or write `{{` for a brace in the text",
            "31: no variable `apq` in `[vars]` → did you mean `app`?",
            "31: an element of keys must be a string, but is an integer → write `keys = [\"product:…\"]`",
            "32: a route names no event → write `event = \"ProductUpdated\"`",
            "33: unknown setting `key` in `[[route]]` → did you mean `keys`?",
            "34: `[[republish]]` names no channel → write `channel = \"product_invalidated\"`",
            "36: unknown setting `chanel` in `[[republish]]` → did you mean `channel`?",
            "37: unknown format `yaml` → known are `json`, `key`, `bentocache`, `fusioncache`",
            "38: `[[republish]]` names no cache → write `cache = \"product\"`",
            "39: channel `unstale:notices` is this sidecar's own → name a channel outside the namespace: what is published there are notices",
            "41: `fields` with format `key`: only the messages of `json` have fields to name → leave `fields` out, or write `format = \"json\"`",
        ],
    );
}

#[test]
fn templates_are_checked_with_a_caret_at_the_place() {
    one("keys = ['c:{id']", "a `{` that is never closed", "{");
    one("keys = ['c:{id:{x}']", "a `{` that is never closed", "{");
    one("keys = ['c:id}']", "a `}` that closes nothing", "}");
    one("keys = ['c:{}']", "an attribute's name is missing", "{}");
    one("keys = ['c:{a..b}']", "an attribute's name is missing", "{a..b}");
    one("keys = ['c:{ a }']", "` a ` is no attribute's name", "{ a }");
    one("keys = ['c:{a?[]}']", "`a?` is no attribute's name", "{a?[]}");
    one("keys = ['c:{a[].b}']", "`a[]` is no attribute's name", "{a[].b}");
    one("keys = ['c:{a|title}']", "unknown filter `|title`", "{a|title}");
    one("keys = ['c:{a|lower|upper}']", "unknown filter `|lower|upper`", "{a|lower|upper}");
    one("keys = ['c:{a[]}:{b[]}']", "more than one `[]` in a template", "c:{a[]}:{b[]}");
    one("bump = ['c:{a}']", "a counter with a placeholder", "'c:{a}'");
}

#[test]
fn a_value_must_not_become_part_of_a_wildcard() {
    one("patterns = ['c:[{a}]']", "a value inside `[…]`", "{a}");
    one("patterns = ['c:[a-]{a}]']", "a value inside `[…]`", "{a}");
    one(r"patterns = ['c:[\]{a}]']", "a value inside `[…]`", "{a}");
    one(r"patterns = ['c:\{a}']", r"a `\` right before a value", "{a}");
    one("patterns = ['c:[a']", "a `[` that is never closed", "c:[a");
    for right in [r"c:[a]{a}", r"c:\\{a}", r"c:\[{a}]", r"c:[^]]{a}", r"c:[a\]]{a}"] {
        let toml = format!("[cache.c]\nprefixes = ['c:']\n[[route]]\nevent = 'E'\ncache = 'c'\npatterns = ['{right}']\n");
        assert!(compile(&input(&toml)).is_ok(), "{right}");
    }
}

#[test]
fn targets_must_lie_in_their_cache() {
    let toml = r#"protected = ["in:no:"]
[cache.in]
prefixes = ["in:"]
[cache.deep]
prefixes = ["in:deep:"]
[cache.local]
prefixes = ["l:"]
store = "local"
[[route]]
event = "E"
cache = "in"
keys = ["in:{a}", "other:{a}", "{a}", "in:deep:{a}", "in:no:{a}", "in:epoch", "in:"]
patterns = ["in:*", "*", "i*", "in:deep:*", "in:de*"]
bump = ["in:epoch", "in:no:count", "out"]
[[route]]
event = "E"
keys = ["in:{a}"]
[[route]]
event = "E"
cache = "local"
bump = ["l:n"]
"#;
    check(
        toml,
        &[
            "12: `other:{a}` lies outside cache `in`, which owns `in:` → begin it with `in:`, or declare its prefix in `[cache.in]`",
            "12: `{a}` lies outside cache `in`, which owns `in:` → begin it with `in:`, or declare its prefix in `[cache.in]`",
            "12: `in:deep:{a}` belongs to cache `deep`, not to `in`: the longest prefix owns → write `cache = \"deep\"`",
            "12: `in:no:{a}` is protected → leave the target out, or narrow `protected`",
            "12: `in:epoch` is a counter: it is incremented, never deleted → leave the target out, or take the counter out of `bump`",
            "13: `*` lies outside cache `in`, which owns `in:` → begin it with `in:`, or declare its prefix in `[cache.in]`",
            "13: `i*` lies outside cache `in`, which owns `in:` → begin it with `in:`, or declare its prefix in `[cache.in]`",
            "13: `in:deep:*` belongs to cache `deep`, not to `in`: the longest prefix owns → write `cache = \"deep\"`",
            "14: `out` lies outside cache `in`, which owns `in:` → begin it with `in:`, or declare its prefix in `[cache.in]`",
            "15: a route with targets names no cache → write `cache = \"NAME\"`; declared are `in`, `deep`, `local`",
            "21: a counter in cache `local`, which has nothing in Redis → leave the counter out: the cache's store is `local`",
        ],
    );
}

#[test]
fn when_is_checked() {
    one("when = { a = [] }", "an empty list for `a` in `when`", "[]");
    one("when = { a = { nott = 1 } }", "unknown test `nott` for `a`", "nott");
    one("when = { a = [[1]] }", "`a` in `when` can't be a list", "[1]");
    one("when = { a = { not = { x = 1 } } }", "`a.not` in `when` can't be a table", "{ x = 1 }");
    one("when = { \"a..b\" = 1 }", "an attribute's name is missing", "\"a..b\"");
    one("when = 'a'", "`when` must be a table, but is a string", "'a'");
}

#[test]
fn constants_are_checked() {
    one("keys = ['c:${x']", "`${` is never closed", "${x");
    check("[vars]\na = 'x'\nb = '${a}'\n", &["3: variable `b` uses another variable → write the text out: variables are constants"]);
}

#[test]
fn carets_are_right_behind_a_constant() {
    let toml = "vars.p = 'a-long-prefix:'\n[cache.c]\nprefixes = ['${p}']\n[[route]]\nevent = 'E'\ncache = 'c'\nkeys = ['${p}x:{a|b}']\n";
    let problems = problems(toml);
    let span = problems.iter().next().and_then(|problem| problem.span.clone()).expect("a place");
    assert_eq!(&toml[span], "{a|b}");
}

#[test]
fn what_a_setting_breaks_in_a_preset_is_shown_there() {
    let problems = problems("presets = ['entity-repository']\npreset.entity-repository.vars.prefix = ''\n");
    let rendered = problems.render(false);
    assert!(rendered.contains("--> preset entity-repository:"), "{rendered}");
    assert!(rendered.contains("(`${prefix}` is ``)"), "{rendered}");
}

#[test]
fn broken_syntax_is_one_problem() {
    let toml = "presets = [\"llm-gateway\"\n[cache.c]\nprefixes = []\n";
    let all = lines(toml, &problems(toml));
    assert_eq!(all.len(), 1);
    assert!(all[0].contains("not valid TOML"), "{all:?}");
}

#[test]
fn overrides_and_flags_are_named_by_their_origin() {
    let set = |path: &[&str], value: &str, origin: &str| Override {
        path: path.iter().map(ToString::to_string).collect(),
        value: value.to_owned(),
        origin: origin.to_owned(),
    };
    let input = Input {
        presets: vec![("lm-gateway".to_owned(), "--preset".to_owned())],
        overrides: vec![
            set(&["presets"], "model-catalog, ende", "UNSTALE__PRESETS"),
            set(&["cache", "c", "second_delete"], "soon", "UNSTALE__CACHE__C__SECOND_DELETE"),
            set(&["protected"], "[\"a:\"", "UNSTALE__PROTECTED"),
        ],
        ..input("[cache.c]\nprefixes = ['c:']\n")
    };
    let problems = compile(&input).expect_err("mistakes");
    let rendered = problems.render(false);
    assert!(rendered.contains("--> UNSTALE__PRESETS:1:16\n  |\n1 | model-catalog, ende\n  |                ^^^^\n"), "{rendered}");
    assert!(rendered.contains("--> UNSTALE__CACHE__C__SECOND_DELETE:1:1"), "{rendered}");
    assert!(rendered.contains("--> UNSTALE__PROTECTED:1:"), "{rendered}");
    assert!(rendered.contains("--> --preset:1:1\n  |\n1 | lm-gateway\n"), "{rendered}");
    assert_eq!(problems.len(), 4, "{rendered}");
}

#[test]
fn a_problem_is_shown_with_file_line_and_caret() {
    let rendered = problems("[cache.product]\nprefixes = [\"product:\"]\nstor = \"local\"\n").render(false);
    assert_eq!(
        rendered,
        "error: unknown setting `stor` in `[cache.product]`\n --> unstale.toml:3:1\n  |\n3 | stor = \"local\"\n  | ^^^^\n  |\n  = help: did you mean `store`?\n"
    );
    let colored = problems("cache = 3").render(true);
    assert!(colored.contains("\u{1b}["));
}

#[test]
fn names_are_suggested_if_they_are_near() {
    assert_eq!(suggest("batch_size", ["max_size", "batches", "batch-sizes"]), Some("batch-sizes"));
    assert_eq!(suggest("REDIS", ["redis", "reader"]), Some("redis"));
    assert_eq!(suggest("x", ["window", "presets"]), None);
}

/// Each is shown with its own text, also where the place of one would be none in the other.
#[test]
fn what_is_given_twice_is_shown_twice() {
    let presets = ["ééé", "abc"].map(|name| (name.to_owned(), "flag `--preset`".to_owned()));
    let overrides = ["[ééé", "[ab"].map(|value| Override {
        path: ["cache", "c", "prefixes"].map(str::to_owned).to_vec(),
        value: value.to_owned(),
        origin: "flag `--set cache.c.prefixes`".to_owned(),
    });
    let problems = compile(&Input { presets: presets.to_vec(), overrides: overrides.to_vec(), ..Input::default() }).unwrap_err();
    let shown = problems.render(false);
    for text in ["1 | ééé", "1 | abc", "1 | [ééé", "1 | [ab"] {
        assert!(shown.contains(text), "{text}:\n{shown}");
    }
}
