// The live part: asks once a second while the page is visible, and not at all while it is not.
import { bars, seconds } from "./charts.js";
import { ask, byId, clock, count, el, milliseconds, plural, rate, tone } from "./page.js";
import { showRow } from "./row.js";

const EVERY_MS = 1000;
const SECONDS = 90;
const CALM = 3; // more new rows at once are not highlighted: everything would be
const yours = new Set();
let isPaused = false;
let timer = 0;
let isAsking = false;
let written = {};

/** Mark the rows of a request that this page has sent. */
export const remember = (request) => yours.add(request);

export function startLive() {
  const pause = byId("pause");
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
  look();
}

/** Ask now, and again in a second. */
export async function look() {
  clearTimeout(timer);
  if (isAsking) return;
  isAsking = true;
  try {
    show(await ask("live"));
  } catch (error) {
    problem([error.message]);
  }
  isAsking = false;
  if (!document.hidden) timer = setTimeout(look, EVERY_MS);
}

function show(told) {
  problem(told.problems);
  collector(told.collector, told.tables);
  workers(told.workers);
  tables(told.tables, told.workers);
  traffic(told.traffic);
  if (told.collector) refusals(told.collector.refusals);
  if (told.tables.rows === undefined) return;
  chart(told.tables.seconds, told.at_ms);
  if (!isPaused && !isHeld()) arriving(told.tables.events);
  dead(told.tables);
}

/** Write a text where it changed: what stays the same is not touched. */
function write(id, text) {
  if (written[id] !== text) byId(id).textContent = written[id] = text;
}

function problem(sentences) {
  byId("problems").hidden = !sentences.length;
  write("problems", sentences.join(" "));
  if (sentences.length) state("broken", "trouble");
}

function state(kind, text) {
  byId("state").dataset.state = kind;
  write("state", text);
}

function collector(told, table) {
  if (!told) return;
  const accepted = told.accepted_per_s ?? latest(table);
  const isBusy = accepted >= 0.05;
  if (byId("problems").hidden) state(isBusy ? "busy" : "idle", isBusy ? "receiving" : "idle");
  write("rate", rate(accepted));
  write("accepted", `${rate(accepted)} /s`);
  const answers = told.answer_s == null ? "events accepted" : `answered in ${milliseconds(told.answer_s * 1000)}`;
  const spool = told.spooled ? `, ${count(told.spooled)} on disk` : "";
  write("accepted-note", `${answers}${spool}`);
}

/** Return the mean of the last seconds from the table, before the collector's counters were seen twice. */
function latest(table) {
  const last = (table.seconds ?? []).slice(-10);
  return last.reduce((sum, [, events]) => sum + events, 0) / 10;
}

function workers(told) {
  const ready = told.states.filter((worker) => worker.is_ready).length;
  write("workers", told.states.length ? `${ready} of ${told.states.length}` : "none");
  byId("workers").classList.toggle("bad", ready < told.states.length);
  const halted = told.halted ? `, ${told.halted} partitions halted` : "";
  const insert = told.insert_s == null ? "ready" : `ready, insert ${milliseconds(told.insert_s * 1000)}`;
  write("workers-note", `${insert}${halted}`);
  write("lag", told.lag == null ? "–" : count(told.lag));
}

function tables(told, worker) {
  if (told.rows === undefined) return;
  write("rows", count(told.rows));
  write("rows-note", `${told.rows === 1 ? "row" : "rows"}, and ${plural(told.dead_letters, "dead letter")}`);
  if (told.p50_s == null) {
    write("fresh", "–");
    write("fresh-note", "no event in the last minute");
    return;
  }
  const insert = worker.insert_s ?? 0;
  write("fresh", milliseconds((told.p50_s + insert) * 1000));
  write("fresh-note", `median; 99 % within ${milliseconds((told.p99_s + insert) * 1000)}`);
}

function chart(pairs, now) {
  const found = new Map(pairs);
  const end = Math.floor(now / 1000);
  const values = Array.from({ length: SECONDS }, (_, index) => found.get(end - SECONDS + 1 + index) ?? 0);
  const key = `${end} ${values}`;
  if (written.chart === key) return;
  written.chart = key;
  const peak = Math.max(...values);
  const usual = values.filter(Boolean).sort((one, other) => one - other);
  const top = Math.min(peak, 4 * (usual[Math.floor(usual.length / 2)] ?? 0));
  const cut = top < peak ? `, cut at ${count(top)}` : "";
  write("rate-peak", peak ? `highest ${count(peak)}${cut}` : "nothing in the last 90 seconds");
  byId("rate-chart").replaceChildren(seconds(values, top));
}

function arriving(events) {
  const body = byId("events");
  byId("no-events").hidden = events.length > 0;
  body.closest(".scroll").hidden = !events.length;
  const present = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const isCalm = events.filter((event) => !present.has(event.key)).length <= CALM;
  const rows = events.map((event) => present.get(event.key) ?? row(event, isCalm));
  if (rows.some((one, index) => body.rows[index] !== one) || rows.length !== body.rows.length) body.replaceChildren(...rows);
}

/** Tell whether the keyboard is in the list: its rows must not move away from under it. */
const isHeld = () => byId("events").querySelector(":focus-visible") !== null;

function row(event, isNew) {
  const open = el("button", { type: "button", click: () => showRow(event.event_id) }, event.event_type);
  open.style.setProperty("--tone", tone(event.event_type));
  open.append(el("span", { class: "unseen" }, ", show the row"));
  const after = el("td", { class: "right" }, milliseconds(event.inserted_ms - event.received_ms));
  const names = [isNew ? "new" : "", yours.has(event.trace_id) ? "yours" : ""].join(" ").trim();
  return el(
    "tr",
    { class: names, "data-key": event.key },
    el("td", {}, clock(event.received_ms)),
    el("td", {}, open),
    el("td", {}, event.client_id),
    el("td", { title: event.what || event.location }, event.what || event.location),
    el("td", { class: "wide" }, event.place),
    after,
  );
}

function refusals(reasons) {
  const pairs = Object.entries(reasons);
  byId("no-refusals").hidden = pairs.length > 0;
  once("refusals", pairs, () => byId("refusals").replaceChildren(bars(pairs, { name: "Refused requests by reason", isBad: true })));
}

function dead(told) {
  write("dead-count", told.dead_letters ? `${count(told.dead_letters)} in the table` : "");
  const pairs = Object.entries(told.reasons);
  once("reasons", pairs, () => byId("reasons").replaceChildren(bars(pairs, { name: "Dead letters by reason", isBad: true })));
  byId("no-dead").hidden = told.dead.length > 0;
  once("dead", told.dead.map((one) => one.key), () => byId("dead").replaceChildren(...told.dead.map(letter)));
}

/** Draw a list only when it changed, so that what is open or focused in it stays. */
function once(name, key, draw) {
  const text = JSON.stringify(key);
  if (written[name] === text) return;
  written[name] = text;
  if (key.length) draw();
}

function letter(one) {
  const tag = el("span", { class: "tag" }, one.reason || "(no reason)");
  const time = el("span", { class: "muted small" }, clock(one.received_ms));
  const size = one.bytes > 600 ? `, the first 600 of ${count(one.bytes)} bytes` : "";
  return el(
    "li",
    {},
    el("div", { class: "top" }, tag, time),
    el("p", {}, one.error),
    el("details", {}, el("summary", {}, `What was sent${size}`), el("pre", { tabindex: "0" }, one.value)),
  );
}

function traffic(told) {
  const isLive = told.mode.startsWith("live-");
  byId("switch").setAttribute("aria-checked", String(isLive));
  if (isLive && written.mode !== told.mode) byId("mode").value = told.mode;
  written.mode = told.mode;
  byId("past").disabled = told.mode === "past";
  const minutes = Math.ceil((told.left_s ?? 0) / 60);
  const texts = { past: "The last 14 days are being sent; this takes some seconds." };
  const failed = told.has_failed ? "The traffic ended with an error: see traffic.log among the logs." : "";
  write("traffic-note", isLive ? `On; it ends by itself within ${minutes} minutes.` : (texts[told.mode] ?? failed));
}
