//! The fifth system: the example `plans`, an API with its cache in the process, on two instances.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value as Json, json};
use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{PATIENCE, Setup, Sidecar, example};

/// What an organization's plans are served as.
const PATHS: [&str; 4] = ["/acme/plans", "/acme/plans?active_only=true", "/acme/stripe/plans", "/acme/stripe/plans?active_only=true"];

/// A process of the API, with a sidecar of its own.
struct Instance {
    process: Child,
    url: String,
    sidecar: Sidecar,
}

impl Instance {
    fn start(redis: &Redis, database: &Path) -> Self {
        let sidecar = Setup::on(redis).preset("subscription-plans").start(redis);
        let mut command = Command::new(example("plans"));
        command.arg("127.0.0.1:0").arg(database).args([redis.url(), sidecar.http()]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the example can be run");
        let out = BufReader::new(process.stdout.take().expect("a pipe"));
        let url = out.lines().next().expect("it prints where it listens").expect("text");
        let instance = Self { process, url, sidecar };
        instance.wait_cache(200);
        instance
    }

    fn request(&self, path: &str) -> (u16, Json) {
        let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
        let mut answer = agent.get(format!("{}{path}", self.url)).call().expect("the API answers");
        (answer.status().as_u16(), answer.body_mut().read_json().expect("in JSON"))
    }

    fn get(&self, path: &str) -> Json {
        let (status, body) = self.request(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The prices that it serves.
    fn cents(&self, path: &str) -> Vec<u64> {
        let plans = self.get(path);
        plans.as_array().into_iter().flatten().filter_map(|plan| plan["cents"].as_u64()).collect()
    }

    fn save(&self, path: &str, cents: u64) {
        let plan = json!({ "name": "Pro", "cents": cents, "active": true });
        let answer = ureq::put(format!("{}{path}", self.url)).send_json(plan).expect("the plan is saved");
        assert_eq!(answer.status(), 204);
    }

    fn wait_cents(&self, path: &str, wanted: &[u64]) {
        wait_until_sync(&format!("{path} to be served as it is"), PATIENCE, || {
            let served = self.cents(path);
            if served == wanted { Ok(()) } else { Err(format!("{served:?}")) }
        });
    }

    fn wait_cache(&self, wanted: u16) {
        wait_until_sync(&format!("the cache's health to be {wanted}"), PATIENCE, || {
            let (status, body) = self.request("/cache");
            if status == wanted { Ok(()) } else { Err(format!("{status}: {body}")) }
        });
    }

    /// Waits until it has heard of all that was published so far: what it keeps and then serves anew it has heard of.
    fn wait_heard(&self, publisher: &Self) {
        assert_eq!(self.get("/marker/plans"), json!([]));
        publisher.save("/marker/stripe/plans/pro", 1);
        self.wait_cents("/marker/plans", &[1]);
    }

    fn loads(&self) -> u64 {
        self.request("/cache").1["loads"].as_u64().expect("a number")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_plan_that_changes_on_one_instance_is_served_by_the_other() {
    let (redis, directory) = (Redis::start_sync(), tempfile::tempdir().expect("a temporary directory can be made"));
    let database = directory.path().join("plans.json");
    let (one, mut other) = (Instance::start(&redis, &database), Instance::start(&redis, &database));
    for cents in [900, 1200] {
        one.save("/acme/stripe/plans/pro", cents);
        for path in PATHS {
            one.wait_cents(path, &[cents]);
            other.wait_cents(path, &[cents]);
        }
        assert_eq!(other.get("/acme/providers"), json!(["stripe"]));
    }

    // What nothing changes stays, be its name ever so much alike.
    one.save("/acme_corp/stripe/plans/pro", 1);
    other.wait_heard(&one);
    assert_eq!((other.cents("/acme_corp/plans"), other.cents("/acme/plans")), (vec![1], vec![1200]));
    one.save("/acme/stripe/plans/pro", 1500);
    other.wait_cents("/acme/plans", &[1500]);
    let loads = other.loads();
    assert_eq!(other.cents("/acme_corp/plans"), [1]);
    assert_eq!(other.cents("/acme/plans"), [1500]);
    assert_eq!(other.loads(), loads, "both were in the process");

    // A stampede is one question to the database.
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(other.get("/globex/plans"), json!([])));
        }
    });
    assert_eq!(other.loads(), loads + 1);

    // Without a sidecar the instance is deaf, knows it, and asks the database.
    other.sidecar.kill();
    other.wait_cache(503);
    one.save("/acme/stripe/plans/pro", 1700);
    assert_eq!(other.cents("/acme/plans"), [1700]);
}
