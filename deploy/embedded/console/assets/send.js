// The form: posts one request and follows it from the answer to its rows or dead letters.
import { look, remember } from "./live.js";
import { ask, byId, el, milliseconds, plural } from "./page.js";
import { openRow } from "./row.js";

let sampled = "";
let turns = 0;

export function startSend(start) {
  byId("type").replaceChildren(...Object.keys(start.types).map((name) => el("option", { value: name }, name)));
  byId("fault").replaceChildren(...Object.entries(start.faults).map(([name, label]) => el("option", { value: name }, label)));
  byId("type").value = "VIEW" in start.types ? "VIEW" : Object.keys(start.types)[0];
  for (const id of ["type", "fault", "lenient"]) byId(id).addEventListener("change", refill);
  byId("again").addEventListener("click", refill);
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("body").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  });
  return refill();
}

async function refill() {
  const asked = { type: byId("type").value, fault: byId("fault").value, lenient: byId("lenient").checked };
  const turn = (turns += 1);
  try {
    const { body } = await ask("sample", asked);
    if (turn === turns) byId("body").value = sampled = body; // else a later choice is under way
  } catch (error) {
    outcome(verdict("bad", error.message));
  }
}

const outcome = (...nodes) => byId("outcome").replaceChildren(...nodes);
const verdict = (kind, text) => el("p", { class: `verdict ${kind}` }, text);

async function send() {
  const button = byId("form").querySelector("[type=submit]");
  if (button.disabled) return;
  button.disabled = true;
  const isUnchanged = byId("body").value === sampled;
  try {
    await follow(await ask("send", { body: byId("body").value, lenient: byId("lenient").checked }));
  } catch (error) {
    outcome(verdict("bad", error.message));
  }
  button.disabled = false;
  if (isUnchanged) refill();
}

async function follow(sent) {
  if (sent.status !== 201) {
    refused(sent);
    return;
  }
  remember(sent.request);
  const bad = sent.answer.filter((one) => "statusCode" in one.headers);
  const good = sent.answer.length - bad.length;
  accepted(sent, good, bad, null);
  const asked = { request: sent.request, sent_ms: sent.sent_ms, rows: good, dead: bad.length };
  accepted(sent, good, bad, await ask("follow", asked));
  look();
}

function refused(sent) {
  const told = typeof sent.answer === "object" ? sent.answer : {};
  const details = (told.details ?? []).map((one) =>
    el("li", {}, el("code", {}, one.pointer || "the body"), ` ${one.message}`),
  );
  outcome(
    verdict("bad", `Refused: ${sent.status} ${told.error ?? ""}. ${told.message ?? sent.answer}`),
    el("ul", { class: "details" }, ...details),
    steps([
      ["Request", 0, "posted to the collector", ""],
      ["Answer", sent.answered_ms, "nothing of it was published: it can be repaired and sent again", "bad"],
    ]),
  );
}

function accepted(sent, good, bad, found) {
  const kind = sent.durability === "disk" ? "written to disk: the broker is away" : "acknowledged by the broker";
  const list = [
    ["Request", 0, "posted to the collector", ""],
    ["Answer 201", sent.answered_ms, `${plural(good, "event")} durable, ${kind}`, ""],
  ];
  if (found) list.push(...arrivals(found, sent), ...missing(found, good + bad.length));
  else list.push(["Row", null, "waiting for a worker to insert it", "waiting"]);
  const reasons = bad.map((one) => el("li", {}, `Refused: ${JSON.parse(one.value).message}`));
  const isDone = found?.is_complete;
  const rows = found?.rows ?? [];
  const text = isDone && rows.length ? `In the table after ${milliseconds(Math.max(...rows.map((row) => row.seen_ms)))}` : "Accepted";
  outcome(verdict("good", text), el("ul", { class: "details" }, ...reasons), steps(list), ...rows.map(showing));
}

function arrivals(found, sent) {
  const rows = found.rows.flatMap((row) => [
    ["Offset", sent.answered_ms, `${row.place} in the log, acknowledged before the answer`, ""],
    ["Worker", row.inserted_ms, "sends its batch to ClickHouse", ""],
    ["Row", row.seen_ms, "a query sees it", ""],
  ]);
  const dead = found.dead.flatMap((letter) => [
    ["Dead letter", letter.seen_ms, `${letter.place}: ${letter.row.reason}: ${letter.row.error}`, "bad"],
  ]);
  return [...rows, ...dead];
}

function missing(found, wanted) {
  const lacks = wanted - found.rows.length - found.dead.length;
  const why = "not seen within 10 s; a row whose eventId the table already had may be merged away";
  return found.is_complete ? [] : [["Row", null, `${plural(lacks, "event")} ${why}`, "bad"]];
}

function showing(found) {
  return el("button", { type: "button", class: "quiet", click: () => openRow(found.row) }, `Show the row${found.row.event_type ? ` of the ${found.row.event_type}` : ""}`);
}

/** Return the steps with their times since the request, and since the step before. */
function steps(list) {
  let before = 0;
  const items = list.map(([name, at, text, kind]) => {
    const since = at != null && before && at > before ? [el("i", {}, `+${milliseconds(at - before)}`)] : [];
    before = at ?? before;
    const time = at == null ? "" : el("time", {}, ...since, at ? milliseconds(at) : "0");
    return el("li", { class: kind }, el("b", {}, name), time, el("small", {}, text));
  });
  return el("ol", { class: "steps" }, ...items);
}
