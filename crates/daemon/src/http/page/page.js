"use strict";
// The live page: asks /v1/overview once a second, works out rates and ages from two answers, and shows them. No state beyond the last minutes.

const EVERY = 1000, WINDOW = 15, KEPT = 120;
// How old nine hundred and ninety of a thousand events may be when their keys are gone, in seconds; the alerts have the same.
const LANES = ["critical", "high", "normal", "low"];
const TARGETS = { critical: 0.05, high: 0.1, normal: 0.3, low: 2 };
const samples = [];
const lines = new Map();
let paused = false, token = sessionStorage.getItem("token") || "";

const $ = (id) => document.getElementById(id);
const el = (name, text, ...classes) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.classList.add(...classes.filter(Boolean));
  return made;
};

// ── asking ──

async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, cache: "no-store", body: body && JSON.stringify(body), signal: AbortSignal.timeout(5000) });
  const json = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(json.error?.message || `answered ${answer.status}`), { status: answer.status });
  return json;
}

async function turn() {
  if (!paused && !document.hidden) {
    try {
      keep(await ask("v1/overview"));
      show();
    } catch (error) {
      lost(error);
    }
  }
  setTimeout(turn, EVERY);
}

function keep(now) {
  const at = performance.now() / 1000, last = samples.at(-1);
  // Another process answers: nothing of before can be compared with it.
  if (last && last.now.instance !== now.instance) { samples.length = 0; lines.clear(); }
  samples.push({ at, now });
  if (samples.length > KEPT) samples.shift();
}

function lost(error) {
  $("ask").hidden = error.status !== 401;
  if (error.status === 401) { say("locked", ""); return; }
  say("no answer", "unhealthy");
  reasons([{ detail: `The sidecar doesn't answer: ${error.message}. What is below was so when it last did.` }], "unhealthy");
}

// ── numbers ──

/** The sample to compare the newest with, and the seconds between: some seconds back, or the oldest. */
function before() {
  const newest = samples.at(-1);
  const old = samples.find((sample) => newest.at - sample.at <= WINDOW) || newest;
  return { old: old.now, seconds: newest.at - old.at };
}

const rate = (pick) => {
  const { old, seconds } = before();
  return seconds > 0.5 ? Math.max(0, pick(samples.at(-1).now) - pick(old)) / seconds : null;
};

/** The age that a share of the last seconds' events stayed below, in seconds, from the counts in the buckets; null if there was no event. */
function age(lane, share) {
  const { old } = before(), now = samples.at(-1).now, bounds = now.age_bounds;
  const counts = now.lanes[lane].ages.map((count, i) => count - (old.lanes[lane].ages[i] || 0));
  const all = counts.at(-1);
  if (!(all > 0)) return null;
  const wanted = all * share, i = counts.findIndex((count) => count >= wanted);
  if (i >= bounds.length) return Infinity;
  const [low, below] = i === 0 ? [0, 0] : [bounds[i - 1], counts[i - 1]];
  return low + (bounds[i] - low) * (wanted - below) / Math.max(1, counts[i] - below);
}

const count = (n) => (n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en"));
const perSecond = (n) => (n === null ? "–" : n < 10 && n > 0 ? n.toFixed(1) : count(n));
const span = (s) => (s === null || s === undefined ? "–" : s === Infinity ? "> 30 s" : s < 0.01 ? `${(s * 1000).toFixed(1)} ms` : s < 1 ? `${Math.round(s * 1000)} ms` : s < 120 ? `${s.toFixed(1)} s` : s < 7200 ? `${Math.round(s / 60)} min` : s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`);
const ago = (ms) => (ms < 1000 ? "now" : `${ms < 120000 ? `${Math.floor(ms / 1000)} s` : span(ms / 1000)} ago`);
const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(share < 0.1 && share > 0 ? 1 : 0)} %`);

// ── showing ──

function say(text, kind) {
  const status = $("status");
  if (status.textContent !== text) status.textContent = text;
  status.className = `pill ${kind}`;
  document.title = kind === "ok" || !kind ? "unstale" : `● ${text} – unstale`;
}

function reasons(list, kind) {
  const text = list.map((reason) => reason.detail).join("\n"), place = $("reasons");
  place.className = `reasons ${kind}`;
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren(...list.map((reason) => el("li", reason.detail)));
}

function show() {
  const now = samples.at(-1).now;
  $("ask").hidden = true;
  $("where").textContent = `${now.instance} · namespace ${now.namespace} · ${now.version}${now.reader ? " · reads the ordinary stream" : " · stands by"}`;
  say(now.health.status, now.health.status);
  reasons([...now.health.reasons, ...(now.shared ? [] : [{ detail: `What is shared can't be shown: ${now.why}` }])], now.health.status);
  tiles(now);
  lanes(now);
  streams(now);
  caches(now);
  links(now);
  if (now.shared) shared(now.shared);
}

function tiles(now) {
  const t = now.stats.totals, worst = LANES.map((lane) => age(lane, 0.99)).filter((a) => a !== null);
  const queued = rate((s) => s.stats.totals.queued), coalesced = rate((s) => s.stats.totals.coalesced);
  const recent = queued ? coalesced / queued : null;
  const all = (s) => s.events.routed + s.events.unrouted + s.events.dead_lettered;
  tile("events", "Events", rate(all), perSecond, "/s", `${count(all(now))} since start`);
  tile("deleted", "Keys deleted", rate((s) => s.stats.totals.keys_deleted), perSecond, "/s", `${count(t.keys_deleted)} since start`);
  tile("age", "Age at deletion, p99", worst.length ? Math.max(...worst) : null, span, "", "the slowest lane");
  tile("coalesced", "Deletes saved", recent, percent, "", `${percent(t.queued ? t.coalescing_rate : null)} since start`);
  tile("depth", "Unread or unfinished", now.stats.depth, count, "", "on both streams");
  tile("errors", "Errors", rate((s) => s.stats.totals.errors), perSecond, "/s", `${count(t.errors)} since start`);
}

function tile(id, title, value, write, unit, note) {
  const line = lines.get(id) || [];
  lines.set(id, line);
  line.push(value === Infinity ? 30 : value);
  if (line.length > KEPT) line.shift();
  let box = $(`tile-${id}`);
  if (!box) {
    box = el("article", undefined, "tile");
    box.id = `tile-${id}`;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 20`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const kind of ["area", "line"]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.classList.add(kind);
      svg.append(path);
    }
    box.append(el("h3", title), el("p"), el("small"), svg);
    $("tiles").append(box);
  }
  box.querySelector("p").textContent = value === null || !unit ? write(value) : `${write(value)} ${unit}`;
  box.querySelector("small").textContent = note;
  draw(box, line);
}

function draw(box, line) {
  const top = Math.max(...line.map((v) => v || 0), 1e-9), left = KEPT - line.length;
  const points = line.map((v, i) => `${left + i} ${(18.5 - 16 * (v || 0) / top).toFixed(2)}`);
  const path = points.length > 1 ? `M${points.join("L")}` : "";
  box.querySelector(".line").setAttribute("d", path);
  box.querySelector(".area").setAttribute("d", path && `${path}L${KEPT - 1} 20L${left} 20Z`);
}

/** Writes a table; a cell is a text, or [text, class], or a node. Rows and cells stay the same elements, so that focus and selection stay. */
function table(id, head, rows, nothing) {
  const place = $(id);
  if (!place.tHead) {
    const row = place.createTHead().insertRow();
    for (const [i, title] of head.entries()) {
      const cell = el("th", title.replace(/^</, ""), title.startsWith("<") && "left");
      cell.scope = "col";
      if (title === "<") cell.setAttribute("aria-label", "actions");
      row.append(cell);
    }
    place.createTBody();
  }
  const body = place.tBodies[0];
  const wanted = rows.length ? rows : [null];
  while (body.rows.length > wanted.length) body.deleteRow(-1);
  wanted.forEach((cells, at) => {
    let row = body.rows[at];
    const key = cells ? "row" : "nothing";
    if (!row || row.dataset.key !== key) {
      row?.remove();
      row = body.insertRow(at);
      row.dataset.key = key;
      if (!cells) { const cell = row.insertCell(); cell.colSpan = head.length; cell.className = "empty"; cell.textContent = nothing; return; }
      cells.forEach((_, i) => { const cell = el(i ? "td" : "th"); if (!i) cell.scope = "row"; row.append(cell); });
    }
    if (!cells) return;
    cells.forEach((value, i) => {
      const cell = row.cells[i];
      if (value instanceof Node) { if (cell.dataset.of !== value.dataset.of) { cell.replaceChildren(value); cell.dataset.of = value.dataset.of; } return; }
      const [text, kind] = Array.isArray(value) ? value : [value, ""];
      if (cell.textContent !== text) cell.textContent = text;
      if (cell.className !== kind) cell.className = kind;
    });
  });
}

const number = (n, kind = "") => [count(n), n ? kind : "zero"];

function lanes(now) {
  const rows = LANES.map((name) => {
    const lane = now.lanes[name];
    const p50 = age(name, 0.5), p99 = age(name, 0.99), late = p99 !== null && p99 > TARGETS[name];
    const events = rate((s) => s.lanes[name].ages.at(-1) || 0);
    return [name, [perSecond(events), events ? "" : "zero"], number(lane.waiting), [span(p50), p50 === null ? "zero" : ""], [span(p99), p99 === null ? "zero" : late ? "bad" : "good"], [span(TARGETS[name]), "zero"]];
  });
  table("lanes", ["priority", "events/s", "waiting", "age p50", "p99", "target"], rows);
}

function streams(now) {
  const rows = now.streams.map((s, i) => [
    s.key, [perSecond(rate((x) => x.streams[i].read)), s.read ? "" : "zero"], number(s.lag, "warn"), number(s.pending), [span(s.oldest_pending_ms / 1000), s.oldest_pending_ms > 60000 ? "bad" : s.oldest_pending_ms ? "" : "zero"],
  ]);
  table("streams", ["stream", "read/s", "unread", "unfinished", "oldest"], rows);
}

function caches(now) {
  const rows = Object.entries(now.stats.caches).map(([name, s]) => {
    const queued = rate((x) => x.stats.caches[name]?.queued || 0);
    return [name, [perSecond(queued), queued ? "" : "zero"], number(s.queued), number(s.processed), [percent(s.queued ? s.coalescing_rate : null), s.coalesced ? "" : "zero"], number(s.keys_deleted), number(s.pending), number(s.failed, "bad"), number(s.errors, "warn"), [s.average_batch_ms ? span(s.average_batch_ms / 1000) : "–", s.average_batch_ms ? "" : "zero"]];
  });
  table("caches", ["cache", "targets/s", "asked for", "confirmed", "saved", "keys deleted", "under way", "failed", "errors", "batch"], rows, "no caches");
}

function links(now) {
  const text = now.links.map((l) => l.role + l.up).join(), place = $("links");
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren(...now.links.map((l) => el("li", l.up ? l.role : `${l.role}: down`, l.up ? "" : "down")));
}

function shared(s) {
  table("instances", ["instance", "<role", "last beat", "behind"], s.instances.map((i) => [
    i.name, [i.reader ? "reads" : "stands by", i.reader ? "left good" : "left zero"], [ago(i.beat_ms), i.beat_ms > 3000 ? "bad" : ""], i.behind === null ? ["–", "zero"] : number(i.behind, "warn"),
  ]), "none has a beat: is any sidecar connected?");
  table("notices", ["notice", "<when", "<priority", "<what", "<from"], s.notices.map((n) => [
    `#${n.seq}`, [ago(s.time - n.at), "left"], [n.priority || "flush", "left"], [what(n), "left wide mono"], [from(n), "left wide"],
  ]), "none yet");
  $("h-dead").textContent = s.dead_letters.total ? `Dead letters: ${count(s.dead_letters.total)}` : "Dead letters";
  table("dead", ["letter", "<when", "<type", "<reason", "<"], s.dead_letters.newest.slice(0, 5).map((d) => [
    d.id, [ago(s.time - d.at), "left"], [d.type || "–", "left"], [d.reason, "left wide"], actions(d),
  ]), "none: all that was asked for was carried out");
}

function what(n) {
  if (n.flush.length) return `drop all of ${n.flush.join(", ")}`;
  return n.drop.map((d) => [d.cache, ...d.keys, ...d.patterns.map((p) => `${p} (pattern)`), d.more ? `and ${count(d.more)} more` : ""].filter(Boolean).join(" ")).join("; ");
}

const from = (n) => [n.events_total ? `${count(n.events_total)} event${n.events_total > 1 ? "s" : ""}` : "", few(n.correlation_ids), few(n.operations), n.origin].filter(Boolean).join(" · ");

const few = (texts) => (texts.length > 2 ? `${texts.slice(0, 2).join(", ")}, …` : texts.join(", "));

function actions(letter) {
  const box = el("span");
  box.dataset.of = letter.id;
  for (const [word, path] of [["Replay", "replay"], ["Drop", "drop"]]) {
    const button = el("button", word);
    button.type = "button";
    button.setAttribute("aria-label", `${word} dead letter ${letter.id}`);
    button.disabled = word === "Replay" && letter.truncated;
    button.addEventListener("click", () => act(button, word, path, letter));
    box.append(button);
  }
  return box;
}

/** Dropping is for good, so it wants a second click. */
async function act(button, word, path, letter) {
  if (path === "drop" && button.dataset.sure !== "yes") {
    button.dataset.sure = "yes";
    button.textContent = "Sure?";
    setTimeout(() => { delete button.dataset.sure; button.textContent = word; }, 4000);
    return;
  }
  button.disabled = true;
  try {
    const answer = await ask(`v1/dead-letters/${path}`, { ids: [letter.id] });
    const refused = answer.refused?.[0];
    $("done").textContent = refused ? `${letter.id} stays: ${refused.message}` : answer.missing?.length ? `${letter.id} was gone already.` : path === "replay" ? `${letter.id} is in its stream again.` : `${letter.id} was dropped.`;
    keep(await ask("v1/overview?fresh"));
    show();
  } catch (error) {
    $("done").textContent = `${letter.id}: ${error.message}`;
  }
  button.disabled = false;
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  ask("v1/overview").then((now) => { keep(now); show(); }, lost);
});
turn();
