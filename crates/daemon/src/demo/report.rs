//! What the demo says at its end.

use std::time::Duration;

use super::api::Stats;
use super::figures::{Commands, Sidecars};
use super::scenario::Played;
use super::screen::{Screen, millis, thousands};
use super::stage::Stage;
use super::verdict::{Verdict, stats};
use super::{Trouble, plan};

/// What one DEL and one PUBLISH for each event would be: what applications do without a sidecar.
const EACH: u64 = 2;
/// Stale values that are named; of more only the number is told.
const NAMED: usize = 5;

/// Everything that was counted, before anybody looks at it.
pub(super) struct Counted {
    pub(super) before: Commands,
    pub(super) after: Commands,
    pub(super) sidecars: Sidecars,
    pub(super) dead: u64,
    pub(super) apis: [Stats; 2],
}

impl Counted {
    pub(super) async fn now(stage: &Stage, before: Commands) -> Result<Self, Trouble> {
        Ok(Self {
            before,
            after: Commands::now(stage).await?,
            sidecars: Sidecars::now(stage).await?,
            dead: stage.main.client().xlen(&stage.names.dead).await?,
            apis: [stats(stage.apis[0]).await?, stats(stage.apis[1]).await?],
        })
    }

    fn ran(&self, names: &[&str]) -> u64 {
        self.after.since(&self.before, names)
    }
}

/// The figures, without a judgement.
pub(super) fn figures(screen: &Screen, played: &Played, counted: &Counted) {
    let Counted { sidecars, dead, apis, .. } = counted;
    screen.heading("What happened");
    let seconds = played.took.as_secs_f64();
    screen.row("events", &format!("{} published in {seconds:.1} s, all acknowledged, {dead} dead letters", thousands(played.events)));
    screen.row("reads meanwhile", &format!("{} by users of both APIs, {}", thousands(played.reads), from(apis)));
    let refused: u64 = apis.iter().map(|api| api.refused_fills).sum();
    screen.row("refused fills", &format!("{refused} values that were dropped while they were being fetched"));
    screen.row("coalesced", &format!("{:.0} % of {} targets, by sharing a delete", sidecars.coalescing(), thousands(sidecars.queued)));
    commands(screen, played, counted);
    revocation(screen, played, sidecars);
}

fn from(apis: &[Stats; 2]) -> String {
    let sum = |part: fn(&Stats) -> u64| apis.iter().map(part).sum::<u64>();
    let (l1, l2, database) = (sum(|api| api.from_l1), sum(|api| api.from_l2), sum(|api| api.from_database));
    format!("{} % answered by L1, {} by L2", percent(l1, l1 + l2 + database), percent(l2, l1 + l2 + database))
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100 + whole / 2) / whole.max(1)
}

fn commands(screen: &Screen, played: &Played, counted: &Counted) {
    let events = played.events;
    let of = |names: &[&str]| counted.ran(names);
    let (reads, scripts, acks, scans) = (of(&["xreadgroup"]), of(&["evalsha", "eval"]), of(&["xack"]), of(&["scan"]));
    screen.heading("Commands to Redis");
    screen.compare("", ["one by one", "sidecars"], "");
    let keys = format!("UNLINK, {} keys deleted", thousands(counted.sidecars.keys_deleted));
    screen.compare("deletes", [&thousands(events), &thousands(of(&["unlink"]))], &keys);
    screen.compare(
        "messages to the APIs",
        [&thousands(events), &thousands(of(&["publish"]))],
        "PUBLISH, and as many in the log, which the APIs hear from their sidecars",
    );
    let sent = reads + scripts + acks + scans;
    let which = format!("{reads} XREADGROUP, {scripts} EVALSHA, {acks} XACK, {scans} SCAN");
    screen.compare("sent for the events", [&thousands(events * EACH), &thousands(sent)], &which);
    screen.remark("By Redis' own count (INFO commandstats), second deletes and all scripts included; UNLINK and PUBLISH run inside");
    screen.remark("the scripts. The publishers' XADD, one an event, takes the place of their DEL and PUBLISH.");
}

fn revocation(screen: &Screen, played: &Played, sidecars: &Sidecars) {
    let [l2, a, b] = played.revoked.lived().map(millis);
    screen.heading(&format!("The key revoked in the middle ({})", plan::hash(plan::REVOKED)));
    screen.row("last seen in L2", &format!("{l2} after its event was published"));
    screen.row("last answered by API a", &format!("{a} after"));
    screen.row("last answered by API b", &format!("{b} after"));
    let age = Duration::from_secs_f64(sidecars.critical_age / sidecars.critical_events.max(1.0));
    // The clock of entry ids ticks once a millisecond.
    let age = if age < Duration::from_millis(1) { "under 1 ms".to_owned() } else { millis(age) };
    screen.row("critical latency", &format!("{age} from XADD to the confirmed delete, by Redis' clock"));
}

/// The judgement. Says whether all is well.
pub(super) fn judgement(screen: &Screen, verdict: &Verdict, counted: &Counted) -> bool {
    screen.heading("What is stale");
    let compared =
        format!("{} values in L2 and through both APIs, {} of them from an L1", thousands(verdict.compared), thousands(verdict.from_l1));
    screen.row("compared", &format!("{compared}, with the database"));
    for stale in verdict.stale.iter().take(NAMED) {
        screen.row("stale", stale);
    }
    let (stale, dead) = (verdict.stale.len(), counted.dead);
    match (stale, dead) {
        (0, 0) => screen.good("Nothing is stale."),
        (0, _) => screen.bad(&format!("Nothing is stale, but {dead} events became dead letters.")),
        (1, _) => screen.bad("One value is stale."),
        (_, _) => screen.bad(&format!("{stale} values are stale.")),
    }
    stale == 0 && dead == 0
}
