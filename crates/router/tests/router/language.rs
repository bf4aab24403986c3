//! The route language, rule by rule.

use std::time::Duration;

use unstale_events::Event;
use unstale_events::{Code, Invalidation, Priority};
use unstale_router::{Format, Input, Override, Store, compile, presets_available};

use crate::support::{input, one, reasons, route, router, targets, texts};

const MISSING: &str = "missing_attribute";
const REFUSED: &str = "refused_target";

#[track_caller]
fn keys(template: &str, attributes: &str, expected: &[&str], codes: &[&str]) {
    let router = one(&format!("keys = ['{template}']"));
    assert_eq!(
        texts(&router, attributes),
        (expected.iter().map(ToString::to_string).collect(), codes.to_vec()),
        "{template} with {attributes}"
    );
}

#[test]
fn a_placeholder_takes_the_text_of_a_scalar() {
    keys("c:{a}", r#""a":"x""#, &["c:x"], &[]);
    keys("c:{a}", r#""a":1.50"#, &["c:1.50"], &[]);
    keys("c:{a}", r#""a":true"#, &["c:true"], &[]);
    keys("c:{a_b}", r#""AB":"x""#, &["c:x"], &[]);
    keys("c:{a}:{b}:{a}", r#""a":"x","b":"y""#, &["c:x:y:x"], &[]);
    keys("c:all", "", &["c:all"], &[]);
}

#[test]
fn a_placeholder_without_a_value_is_a_missing_attribute() {
    for attributes in ["", r#""a":null"#, r#""a":"""#, r#""a":[]"#, r#""a":["x"]"#, r#""a":{}"#, r#""a":{"b":1}"#] {
        keys("c:{a}", attributes, &[], &[MISSING]);
    }
}

#[test]
fn an_optional_placeholder_skips_its_target() {
    for attributes in ["", r#""a":null"#, r#""a":"""#, r#""a":[]"#] {
        keys("c:{a?}", attributes, &[], &[]);
    }
    keys("c:{a?}", r#""a":"x""#, &["c:x"], &[]);
    keys("c:{a?}", r#""a":["x"]"#, &[], &[MISSING]);
    keys("c:{a?}", r#""a":{"b":1}"#, &[], &[MISSING]);
}

#[test]
fn an_array_placeholder_takes_each_element() {
    keys("c:{a[]}", r#""a":["x",2,true]"#, &["c:x", "c:2", "c:true"], &[]);
    keys("c:{a[]}", r#""a":[]"#, &[], &[]);
    keys("c:{a[]}", r#""a":"x""#, &["c:x"], &[]);
    keys("c:{b}:{a[]}:{b}", r#""a":["x","y"],"b":"z""#, &["c:z:x:z", "c:z:y:z"], &[]);
    keys("c:{a[]}", "", &[], &[MISSING]);
    keys("c:{a[]}", r#""a":null"#, &[], &[MISSING]);
    keys("c:{a[]}", r#""a":"""#, &[], &[MISSING]);
    keys("c:{a[]}", r#""a":["x","","y",null]"#, &["c:x", "c:y"], &[MISSING]);
    keys("c:{a[]}", r#""a":["x",["y"],{"z":1}]"#, &["c:x"], &[MISSING, MISSING]);
    keys("c:{a[]}", r#""a":{"z":1}"#, &[], &[MISSING]);
}

#[test]
fn an_optional_array_placeholder_skips_what_is_empty() {
    keys("c:{a[]?}", r#""a":["x","",null,"y"]"#, &["c:x", "c:y"], &[]);
    for attributes in ["", r#""a":null"#, r#""a":"""#, r#""a":[]"#] {
        keys("c:{a[]?}", attributes, &[], &[]);
    }
    keys("c:{a[]?}", r#""a":["x",["y"]]"#, &["c:x"], &[MISSING]);
}

#[test]
fn other_placeholders_beside_an_array_keep_their_rules() {
    keys("c:{b}:{a[]}", r#""a":["x","y"]"#, &[], &[MISSING]);
    keys("c:{b?}:{a[]}", r#""a":["x","y"]"#, &[], &[]);
    keys("c:{b}:{a[]}", r#""a":[]"#, &[], &[]);
}

#[test]
fn filters_change_case() {
    keys("c:{a|lower}", r#""a":"Äb-C1""#, &["c:äb-c1"], &[]);
    keys("c:{a|upper}", r#""a":"äb-c1""#, &["c:ÄB-C1"], &[]);
    keys("c:{a?|lower}", "", &[], &[]);
    keys("c:{a[]|upper}", r#""a":["x","y"]"#, &["c:X", "c:Y"], &[]);
    keys("c:{a[]?|lower}", r#""a":["X",""]"#, &["c:x"], &[]);
}

#[test]
fn doubled_braces_are_braces() {
    keys("c:{{{a}}}:x", r#""a":"x""#, &["c:{x}:x"], &[]);
    keys("c:{{a}}", r#""a":"x""#, &["c:{a}"], &[]);
}

#[test]
fn dots_lead_into_objects() {
    keys("c:{a.b.c}", r#""a":{"B":{"c":"x"}}"#, &["c:x"], &[]);
    keys("c:{a.b}", r#""a":"x""#, &[], &[MISSING]);
    keys("c:{a.b[]}", r#""a":{"b":[1,2]}"#, &["c:1", "c:2"], &[]);
    keys("c:{a.b.c.d.e.f.g.h}", r#""a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":1}}}}}}}"#, &["c:1"], &[]);
}

#[test]
fn values_in_patterns_are_escaped_and_the_routes_own_wildcards_are_not() {
    let router = one(r#"patterns = ["c:{a}:*", "c:[xy]:{a}?", "c:{b[]}:*"]"#);
    let (found, codes) = texts(&router, r#""a":"*?[z]\\","b":["*"]"#);
    assert_eq!(found, [r"c:\*\?\[z\]\\:*", r"c:[xy]:\*\?\[z\]\\?", r"c:\*:*"]);
    assert!(codes.is_empty());
}

#[test]
fn constants_are_replaced_and_stand_for_themselves() {
    let router = router(
        r#"
        vars = { app = "{a}[x]:", kind = "E" }
        [cache.c]
        prefixes = ["${app}"]
        [[route]]
        event = "${kind}"
        cache = "c"
        keys = ["${app}${kind}{x}", "${app}${{x}}"]
        patterns = ["${app}*"]
        "#,
    );
    let (found, codes) = texts(&router, r#""x":"1""#);
    assert_eq!(found, ["{a}[x]:E1", "{a}[x]:${x}", r"{a}\[x\]:*"]);
    assert!(codes.is_empty());
}

#[track_caller]
fn holds(when: &str, yes: &[&str], no: &[&str]) {
    let router = one(&format!("when = {{ {when} }}\nkeys = ['c:k']"));
    for (attributes, expected) in yes.iter().map(|yes| (yes, 1)).chain(no.iter().map(|no| (no, 0))) {
        let (found, codes) = texts(&router, attributes);
        assert_eq!((found.len(), codes.len()), (expected, 0), "{when} with {attributes}");
    }
}

#[test]
fn when_compares_as_text() {
    holds(r#"a = "x""#, &[r#""a":"x""#, r#""a":["y","x"]"#], &["", r#""a":"X""#, r#""a":["y"]"#, r#""a":{"x":1}"#]);
    holds("a = 1", &[r#""a":1"#, r#""a":"1""#], &[r#""a":1.0"#, r#""a":10"#]);
    holds("a = 1.50", &[r#""a":1.50"#, r#""a":"1.50""#], &[r#""a":1.5"#]);
    holds("a = true", &[r#""a":true"#, r#""a":"True""#, r#""a":"TRUE""#], &[r#""a":false"#, r#""a":1"#]);
    holds(r#"a = "False""#, &[r#""a":false"#, r#""a":"false""#], &[r#""a":true"#, ""]);
}

#[test]
fn when_takes_one_of_a_list() {
    holds(
        r#"a = ["x", 2, true]"#,
        &[r#""a":"x""#, r#""a":2"#, r#""a":"TRUE""#, r#""a":["q","x"]"#],
        &["", r#""a":"y""#, r#""a":[]"#, r#""a":["q"]"#],
    );
    holds(r#"a = ["x", ""]"#, &[r#""a":"x""#, "", r#""a":[]"#], &[r#""a":"y""#]);
}

#[test]
fn absent_null_and_empty_all_equal_the_empty_text() {
    let empty = ["", r#""a":null"#, r#""a":"""#, r#""a":[]"#];
    let full = [r#""a":"x""#, r#""a":["x"]"#, r#""a":0"#, r#""a":false"#];
    holds(r#"a = """#, &empty, &full);
    holds(r#"a = { not = "" }"#, &full, &empty);
}

#[test]
fn not_means_that_no_element_equals() {
    holds(r#"a = { not = "x" }"#, &["", r#""a":"y""#, r#""a":["y","z"]"#, r#""a":[]"#], &[r#""a":"x""#, r#""a":["y","x"]"#]);
    holds(r#"a = { not = ["x", "y"] }"#, &["", r#""a":"z""#], &[r#""a":"x""#, r#""a":["z","y"]"#]);
    holds("a = { not = true }", &["", r#""a":false"#], &[r#""a":"True""#]);
}

#[test]
fn like_is_a_glob_without_case() {
    holds(r#"a = { like = "auth*" }"#, &[r#""a":"Auth:X""#, r#""a":"AUTH""#, r#""a":["x","auth"]"#], &["", r#""a":"xauth""#, r#""a":[]"#]);
    holds(r#"a = { like = "A?c" }"#, &[r#""a":"abC""#], &[r#""a":"ac""#]);
    holds(r#"a = { like = ["a*", "b*"] }"#, &[r#""a":"ax""#, r#""a":"bx""#], &[r#""a":"cx""#]);
    holds(r#"a = { like = "a*", not = "ab" }"#, &[r#""a":"ac""#], &[r#""a":"ab""#, r#""a":"b""#]);
}

#[test]
fn all_entries_of_when_must_hold() {
    holds(r#"a = "x", b = "y""#, &[r#""a":"x","b":"y""#], &[r#""a":"x""#, r#""b":"y""#, r#""a":"x","b":"z""#]);
    holds(r#""o.a" = "x""#, &[r#""o":{"a":"x"}"#], &[r#""a":"x""#, r#""o.b":"x""#]);
}

const SEVERAL: &str = r#"
    [cache.c]
    prefixes = ["c:"]
    [[route]]
    event = ["Exact", "Other"]
    cache = "c"
    priority = "low"
    keys = ["c:1"]
    [[route]]
    event = "Ex*"
    cache = "c"
    priority = "high"
    keys = ["c:2"]
    [[route]]
    event = ["*act", "E?act"]
    cache = "c"
    when = { urgent = true }
    priority = "critical"
    keys = ["c:3"]
    [[route]]
    event = "Known"
"#;

#[test]
fn all_matching_routes_add_up_and_the_highest_priority_counts() {
    let router = router(SEVERAL);
    let found = |json: &str| {
        let out = route(&router, json);
        (targets(&router, &out), out.priority, out.label.map(|label| router.labels()[label as usize].clone()))
    };
    let key = |numbers: &str| numbers.chars().map(|n| format!("c key c:{n}")).collect::<Vec<_>>();
    assert_eq!(found(r#"{"type":"Exact"}"#), (key("12"), Priority::High, Some("Exact".to_owned())));
    assert_eq!(found(r#"{"type":"Exact","urgent":true}"#), (key("123"), Priority::Critical, Some("Exact".to_owned())));
    assert_eq!(found(r#"{"type":"Other"}"#), (key("1"), Priority::Low, Some("Other".to_owned())));
    assert_eq!(found(r#"{"type":"Exit"}"#), (key("2"), Priority::High, Some("Ex*".to_owned())));
    assert_eq!(found(r#"{"type":"Exxact","urgent":true}"#), (key("23"), Priority::Critical, Some("Ex*".to_owned())));
    assert_eq!(found(r#"{"type":"React"}"#), (key(""), Priority::Normal, Some("*act".to_owned())));
    assert_eq!(found(r#"{"type":"exact"}"#), (key(""), Priority::Normal, Some("*act".to_owned())));
    assert_eq!(found(r#"{"type":"Nobody"}"#), (key(""), Priority::Normal, None));
}

#[test]
fn a_route_without_targets_makes_a_type_known() {
    let router = router(SEVERAL);
    let known = route(&router, r#"{"type":"Known"}"#);
    assert!(known.routed && known.targets.is_empty() && known.reasons.is_empty());
    assert!(!route(&router, r#"{"type":"Unknown"}"#).routed);
    assert_eq!(router.labels(), ["CacheInvalidationRequested", "UnstaleCanary", "Exact", "Other", "Ex*", "*act", "E?act", "Known"]);
    assert_eq!(router.rules(), 4);
}

#[test]
fn a_canary_deletes_its_own_key_and_nothing_else_whatever_the_routes_say() {
    let router = router("[cache.c]\nprefixes = ['c:']\n[[route]]\nevent = '*'\ncache = 'c'\nkeys = ['c:{a}']");
    let canary = |attributes: &str| route(&router, &format!(r#"{{"type":"UnstaleCanary"{attributes}}}"#));
    let out = canary(r#","key":"unstale:canary:1""#);
    assert_eq!(targets(&router, &out), ["unstale:canary key unstale:canary:1"]);
    assert!(out.routed && out.reasons.is_empty() && out.priority == Priority::Normal);
    for attributes in
        ["", r#","key":"unstale:events""#, r#","key":"c:1","a":"1""#, r#","key":["unstale:canary:1"]"#, r#","key":"unstale:canary""#]
    {
        let out = canary(attributes);
        assert!(out.targets.is_empty(), "{attributes}");
        assert_eq!(out.reasons.iter().map(|reason| reason.code.name()).collect::<Vec<_>>(), [REFUSED], "{attributes}");
    }
    // Nobody else may delete it.
    let asked = route(&router, r#"{"type":"CacheInvalidationRequested","keys":["unstale:canary:1"],"cache":"unstale:canary"}"#);
    assert!(asked.targets.is_empty() && !asked.reasons.is_empty());
    assert_eq!((router.caches().len(), router.caches().by_name("unstale:canary")), (1, None));
    let named = input("[cache.c]\nprefixes = ['c:']\n[[route]]\nevent = ['UnstaleCanary', 'Other']\ncache = 'c'\nkeys = ['c:1']");
    let problems = compile(&named).unwrap_err().to_string();
    assert!(problems.contains("`UnstaleCanary` is built in"), "{problems}");
}

#[test]
fn what_is_missing_or_refused_does_not_stop_the_rest() {
    let router = router(
        r#"
        [cache.c]
        prefixes = ["c:"]
        [cache.inner]
        prefixes = ["c:inner:"]
        [[route]]
        event = "E"
        cache = "c"
        keys = ["c:{a}", "c:{b}", "c:last"]
        patterns = ["c:{a}*", "c:{missing.too}*"]
        "#,
    );
    let out = route(&router, r#"{"type":"E","a":"inner:x"}"#);
    assert_eq!(targets(&router, &out), ["c key c:last"]);
    assert_eq!(
        reasons(&out),
        [
            "refused_target: `c:{a}` belongs to cache `inner`, not to `c`: the longest prefix owns",
            "missing_attribute: attribute `b` is absent, null or empty; the route's `c:{b}` needs it",
            "refused_target: `c:{a}*` belongs to cache `inner`, not to `c`: the longest prefix owns",
            "missing_attribute: attribute `missing.too` is absent, null or empty; the route's `c:{missing.too}*` needs it",
        ]
    );
}

#[test]
fn the_sidecars_own_keys_protected_ones_and_counters_are_refused() {
    let toml = r#"
        protected = ["x:stats:", "x:locks:*"]
        [cache.c]
        prefixes = ["x:", "un"]
        [[route]]
        event = "E"
        cache = "c"
        keys = ["x:{a}", "un{b?}"]
        patterns = ["x:{a}*"]
        bump = ["x:epoch"]
    "#;
    let mut input = input(toml);
    input.own_keys = vec!["x:events".to_owned()];
    let router = compile(&input).expect("a right configuration");
    let judged = |a: &str, b: &str| {
        let out = route(&router, &format!(r#"{{"type":"E","a":"{a}","b":"{b}"}}"#));
        (targets(&router, &out), out.reasons.iter().map(|reason| reason.code).collect::<Vec<_>>())
    };
    let refused = Code::RefusedTarget;
    assert_eq!(judged("stats:1", ""), (vec!["c bump x:epoch".to_owned()], vec![refused; 2]));
    assert_eq!(judged("locks:", ""), (vec!["c bump x:epoch".to_owned()], vec![refused; 2]));
    assert_eq!(judged("events", "stale:events").1, [refused; 3]);
    assert_eq!(judged("epoch", ""), (vec!["c bump x:epoch".to_owned(), "c pattern x:epoch*".to_owned()], vec![refused]));
    assert_eq!(judged("fine", "").1, []);
}

#[test]
fn scans_pass_over_what_may_not_be_deleted() {
    let toml = r#"
        protected = ["c:stats:"]
        [cache.c]
        prefixes = ["c:", "un"]
        [cache.inner]
        prefixes = ["c:inner:"]
        [cache.deep]
        prefixes = ["c:inner:deep:"]
        [[route]]
        event = "E"
        cache = "c"
        bump = ["c:epoch"]
    "#;
    let mut input = input(toml);
    input.own_keys = vec!["c:events".to_owned()];
    let router = compile(&input).expect("a right configuration");
    let caches = router.caches();
    let [c, inner, deep] = ["c", "inner", "deep"].map(|name| caches.by_name(name).expect("declared"));
    for key in ["c:", "c:1", "c:inner", "c:statsx", "c:epoch2", "c:eventsx", "unstal", "unstale", "c:zzz"] {
        assert!(caches.deletable(c, key.as_bytes()), "{key}");
    }
    assert!(caches.deletable(c, b"c:\xff\x00"));
    for key in ["c", "d:1", "c:inner:1", "c:inner:deep:1", "c:stats:1", "c:epoch", "c:events", "unstale:events", "unstale:x", ""] {
        assert!(!caches.deletable(c, key.as_bytes()), "{key}");
    }
    assert_eq!(caches.owner(b"c:inner:x"), Some(inner));
    assert_eq!(caches.owner(b"c:inner:deep:x"), Some(deep));
    assert_eq!(caches.owner(b"c:inner:deep"), Some(inner));
    assert_eq!(caches.owner(b"c:innermost"), Some(c));
    assert_eq!(caches.owner(b"b"), None);
    assert_eq!(caches.owner(b"zz"), None);
    assert!(caches.check_pattern(c, "c:in*").is_ok());
    assert!(caches.check_pattern(c, "c*").is_err());
    assert!(caches.check_pattern(c, "c:inner:*").is_err());
    assert!(caches.check_pattern(c, r"c\:\i*").is_ok());
    assert!(caches.check_key(c, "c:stats:1").is_err());
}

#[test]
fn an_event_with_too_many_targets_is_not_carried_out_in_part() {
    let mut input =
        input("[cache.c]\nprefixes=['c:']\n[[route]]\nevent='E'\ncache='c'\nkeys=['c:{a[]}', 'c:x']\nbump=['c:n']\npriority='high'\n");
    input.max_targets = 3;
    let router = compile(&input).expect("a right configuration");
    let (found, codes) = texts(&router, r#""a":[1,2]"#);
    assert_eq!((found.len(), codes.len()), (4, 0), "counters don't count");
    let out = route(&router, r#"{"type":"E","a":[1,2,3,""]}"#);
    assert_eq!(out.priority, Priority::High);
    assert!(out.targets.is_empty());
    assert_eq!(out.reasons.iter().map(|reason| reason.code).collect::<Vec<_>>(), [Code::TooManyTargets]);
}

#[test]
fn long_values_times_long_arrays_are_bounded() {
    let router = one("keys = ['c:{a}:{b[]}']");
    let long = "x".repeat(500_000);
    let many = vec!["1"; 9_000].join(",");
    let out = route(&router, &format!(r#"{{"type":"E","a":"{long}","b":[{many}]}}"#));
    assert!(out.targets.is_empty());
    assert_eq!(out.reasons[0].code, Code::TooManyTargets);
}

#[test]
fn an_invalidation_is_reused() {
    let router = one("keys = ['c:{a}']");
    let mut out = Invalidation::default();
    for json in
        [r#"{"type":"E"}"#, r#"{"type":"CacheInvalidationRequested","operation":"o","priority":"critical"}"#, r#"{"type":"E","a":"x"}"#]
    {
        router.route(&Event::from_json(json.as_bytes()).expect("an event"), &mut out);
    }
    assert_eq!((out.targets.len(), out.reasons.len(), out.operation, out.priority), (1, 0, None, Priority::Normal));
}

const REQUESTS: &str = r#"
    protected = ["a:p:"]
    [cache.a]
    prefixes = ["a:"]
    [cache.b]
    prefixes = ["b:", "a:b:"]
"#;

#[track_caller]
fn request(attributes: &str) -> (Vec<String>, Vec<String>, Priority) {
    let router = router(REQUESTS);
    let out = route(&router, &format!(r#"{{"type":"CacheInvalidationRequested",{attributes}}}"#));
    assert!(out.routed && out.label == Some(0));
    (targets(&router, &out), reasons(&out), out.priority)
}

#[test]
fn a_request_names_keys_and_patterns_itself() {
    let (found, reasons, priority) =
        request(r#""keys":["a:1","a:b:1","b:1"],"patterns":["a:*","a:b:[xy]*"],"priority":"high","operation":"op""#);
    assert_eq!(found, ["a key a:1", "a pattern a:*", "b key a:b:1", "b key b:1", "b pattern a:b:[xy]*"]);
    assert!(reasons.is_empty());
    assert_eq!(priority, Priority::High);
    assert_eq!(request(r#""keys":"a:1""#), (vec!["a key a:1".to_owned()], vec![], Priority::Normal));
    assert_eq!(request(r#""keys":null,"patterns":[]"#), (vec![], vec![], Priority::Normal));
}

#[test]
fn a_request_carries_its_operation() {
    let router = router(REQUESTS);
    let out = route(&router, r#"{"type":"CacheInvalidationRequested","keys":["a:1"],"Operation":"bulk edit"}"#);
    assert_eq!(out.operation.as_deref(), Some("bulk edit"));
}

#[test]
fn a_request_is_judged_like_a_route() {
    let (found, reasons, _) = request(r#""cache":"a","keys":["a:1","a:b:1","b:1","x","a:p:1",""],"patterns":["a:b:*","*","a*","a:?*"]"#);
    assert_eq!(found, ["a key a:1", "a pattern a:?*"]);
    assert_eq!(
        reasons,
        [
            "refused_target: `keys[1]` belongs to cache `b`, not to `a`: the longest prefix owns",
            "refused_target: `keys[2]` belongs to cache `b`, not to `a`: the longest prefix owns",
            "refused_target: `keys[3]` lies outside cache `a`, which owns `a:`",
            "refused_target: `keys[4]` is protected",
            "missing_attribute: `keys[5]` is empty",
            "refused_target: `patterns[0]` belongs to cache `b`, not to `a`: the longest prefix owns",
            "refused_target: `patterns[1]` lies outside cache `a`, which owns `a:`",
            "refused_target: `patterns[2]` lies outside cache `a`, which owns `a:`",
        ]
    );
    let (found, reasons, _) = request(r#""keys":["unstale:events","zzz"]"#);
    assert!(found.is_empty());
    assert_eq!(reasons, ["refused_target: `keys[0]` lies in no declared cache", "refused_target: `keys[1]` lies in no declared cache"]);
}

#[test]
fn a_request_with_unfit_attributes_says_which() {
    let (found, reasons, priority) = request(r#""cache":"nope","keys":["a:1"],"priority":"urgent""#);
    assert!(found.is_empty());
    assert_eq!(priority, Priority::Normal);
    assert!(reasons[0].starts_with("missing_attribute: attribute `priority`"), "{reasons:?}");
    assert!(reasons[1].starts_with("refused_target: attribute `cache`"), "{reasons:?}");
    let (found, reasons, _) = request(r#""keys":["a:1",{"x":1}],"operation":["x"]"#);
    assert_eq!(found, ["a key a:1"]);
    assert_eq!(reasons.len(), 2);
    let (found, _, _) = request(r#""cache":["a"],"keys":["a:1"]"#);
    assert!(found.is_empty(), "a cache that can't be read must not widen to all");
}

#[test]
fn a_requests_patterns_have_few_wildcards() {
    let pattern = format!("a:{}", "?x".repeat(8));
    assert_eq!(request(&format!(r#""patterns":["{pattern}"]"#)).1, Vec::<String>::new());
    let (found, reasons, _) = request(&format!(r#""patterns":["{pattern}[y]"]"#));
    assert!(found.is_empty());
    assert_eq!(reasons, ["refused_target: `patterns[0]` has more than 8 wildcards"]);
}

#[test]
fn routes_may_add_to_a_request() {
    let router = router("[cache.c]\nprefixes=['c:']\n[[route]]\nevent='Cache*'\ncache='c'\nkeys=['c:audit']\npriority='high'\n");
    let out = route(&router, r#"{"type":"CacheInvalidationRequested","keys":["c:1"]}"#);
    assert_eq!(targets(&router, &out), ["c key c:1", "c key c:audit"]);
    assert_eq!(out.priority, Priority::High);
}

#[test]
fn caches_have_the_settings_that_the_file_gives_them() {
    let toml = r#"
        batching = { window = "1s" }
        [cache.product]
        prefixes = ["product:", "product:*", "p2:"]
        redis = "other"
        second_delete = "500ms"
        [cache.local]
        prefixes = ["l:"]
        store = "local"
        [redis.other]
        url = "redis://localhost"
    "#;
    let mut input = input(toml);
    input.servers = vec!["other".to_owned()];
    let router = compile(&input).expect("a right configuration");
    let caches = router.caches();
    let product = caches.get(caches.by_name("product").expect("declared"));
    assert_eq!((product.redis.as_str(), product.store, product.second_delete), ("other", Store::Redis, Duration::from_millis(500)));
    assert_eq!(product.prefixes, ["product:", "p2:"]);
    let local = caches.get(caches.by_name("local").expect("declared"));
    assert_eq!((local.redis.as_str(), local.store, local.second_delete), ("main", Store::Local, Duration::ZERO));
    assert_eq!(caches.len(), 2);
}

#[test]
fn presets_take_settings() {
    let router = router(
        r#"
        presets = ["llm-gateway"]
        [preset.llm-gateway]
        vars = { tasks = "conduit:" }
        without = ["AsyncTaskUpdated", "SpendUpdated"]
        [preset.llm-gateway.cache.virtual_key]
        second_delete = "1s"
        [[route]]
        event = "Mine"
        cache = "virtual_key"
        keys = ["vkey:{id}"]
        "#,
    );
    let out = route(&router, r#"{"type":"AsyncTaskDeleted","task_id":"7"}"#);
    assert_eq!(targets(&router, &out), ["async_task key conduit:async:task:7"]);
    for gone in ["AsyncTaskUpdated", "SpendUpdated"] {
        assert!(!route(&router, &format!(r#"{{"type":"{gone}"}}"#)).routed);
        assert!(!router.labels().iter().any(|label| label == gone));
    }
    let caches = router.caches();
    assert_eq!(caches.get(caches.by_name("virtual_key").expect("declared")).second_delete, Duration::from_secs(1));
    assert!(!caches.deletable(caches.by_name("async_task").expect("declared"), b"conduit:cache:stats:1"));
    assert_eq!(targets(&router, &route(&router, r#"{"type":"Mine","id":1}"#)), ["virtual_key key vkey:1"]);
}

fn set(path: &[&str], value: &str) -> Override {
    let path = path.iter().map(ToString::to_string).collect::<Vec<_>>();
    Override { origin: format!("UNSTALE__{}", path.join("__").to_uppercase()), path, value: value.to_owned() }
}

#[test]
fn overrides_replace_single_settings() {
    let mut input = input("presets = ['model-catalog']\n[cache.product]\nprefixes = ['product:']\nsecond_delete = '1s'\n");
    input.overrides = vec![
        set(&["PRESETS"], "llm-gateway, endpoint-catalog"),
        set(&["CACHE", "PRODUCT", "SECOND_DELETE"], "2s"),
        set(&["CACHE", "NEW_ONE", "PREFIXES"], r#"["new:", "newer:"]"#),
        set(&["PRESET", "LLM_GATEWAY", "VARS", "TASKS"], "[x]:"),
        set(&["PRESET", "LLM_GATEWAY", "CACHE", "VIRTUAL_KEY", "SECOND_DELETE"], "3s"),
        set(&["PRESET", "LLM_GATEWAY", "WITHOUT"], "SpendUpdated"),
        set(&["PROTECTED"], "product:a:,product:b:*"),
        set(&["ROUTE"], r#"[{ event = "Env", cache = "product", keys = ["product:{id}"] }]"#),
    ];
    input.presets = vec![("subscription-plans".to_owned(), "--preset".to_owned()), ("llm-gateway".to_owned(), "--preset".to_owned())];
    let router = compile(&input).unwrap_or_else(|problems| panic!("{problems}"));
    let caches = router.caches();
    let cache = |name: &str| caches.get(caches.by_name(name).expect("declared"));
    assert_eq!(cache("product").second_delete, Duration::from_secs(2));
    assert_eq!(cache("virtual_key").second_delete, Duration::from_secs(3));
    assert_eq!(cache("new_one").prefixes, ["new:", "newer:"]);
    assert_eq!(cache("async_task").prefixes, ["[x]:async:task:"]);
    assert!(
        caches.by_name("provider_catalog").is_none()
            && caches.by_name("subscription_plan").is_some()
            && caches.by_name("cluster").is_some()
    );
    assert!(!route(&router, r#"{"type":"SpendUpdated"}"#).routed);
    assert_eq!(targets(&router, &route(&router, r#"{"type":"Env","id":4}"#)), ["product key product:4"]);
    assert_eq!(route(&router, r#"{"type":"Env","id":"b:4"}"#).reasons[0].code.name(), REFUSED);
}

#[test]
fn every_preset_can_be_used_with_every_other() {
    let names: Vec<_> = presets_available().map(|name| format!("{name:?}")).collect();
    let router = router(&format!("presets = [{}]", names.join(",")));
    assert!(router.rules() > 50);
    assert!(router.caches().len() > 20);
}

#[test]
fn republished_caches_are_listed() {
    let router = router(
        r#"
        [cache.c]
        prefixes = ["c:"]
        [[republish]]
        cache = "c"
        channel = "one"
        format = "json"
        fields = { keys = "KeyHashes", time = "Timestamp" }
        strip = "c:"
        [[republish]]
        cache = "c"
        channel = "two"
        format = "key"
        [[republish]]
        cache = "c"
        channel = "three"
        fields = { keys = "k" }
        [[republish]]
        cache = "c"
        channel = "four"
        format = "bentocache"
        [[republish]]
        cache = "c"
        channel = "five"
        format = "fusioncache"
        "#,
    );
    let formats: Vec<_> = router
        .republish()
        .iter()
        .map(|republish| (republish.channel.as_str(), republish.strip.as_str(), republish.format.clone()))
        .collect();
    let json = |keys: &str, time: Option<&str>| Format::Json { keys: keys.to_owned(), time: time.map(str::to_owned) };
    assert_eq!(
        formats,
        [
            ("one", "c:", json("KeyHashes", Some("Timestamp"))),
            ("two", "", Format::Key),
            ("three", "", json("k", None)),
            ("four", "", Format::Bentocache),
            ("five", "", Format::FusionCache)
        ]
    );
}

#[test]
fn the_fingerprint_tells_routes_apart() {
    let fingerprint = |toml: &str| router(toml).fingerprint().to_owned();
    let base = "[cache.c]\nprefixes=['c:']\n[[route]]\nevent='E'\ncache='c'\nkeys=['c:{a}']\n";
    assert_eq!(fingerprint(base), fingerprint(&format!("# a comment\n{base}")));
    for (from, to) in
        [("c:{a}", "c:{b}"), ("'E'", "'F'"), ("event", "priority='high'\nevent"), ("event", "when={x=1}\nevent"), ("keys", "patterns")]
    {
        assert_ne!(fingerprint(base), fingerprint(&base.replace(from, to)), "{from} → {to}");
    }
}

#[test]
fn without_any_routes_there_are_only_the_two_that_are_built_in() {
    let router = compile(&Input::default()).expect("nothing is right");
    assert_eq!((router.rules(), router.labels().len(), router.caches().len()), (0, 2, 0));
}
