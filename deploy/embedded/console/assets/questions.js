// The data team's questions: a list, and the answer of the chosen one.
import { chart } from "./charts.js";
import { ask, byId, bytes, el, milliseconds, plural } from "./page.js";

let asked = 0;

export function startQuestions(questions) {
  const items = questions.map((question, number) =>
    el("li", {}, el("button", { type: "button", click: (event) => run(question, number, event.currentTarget) }, question.title)),
  );
  byId("questions").replaceChildren(...items);
}

async function run(question, number, button) {
  for (const other of byId("questions").querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  const turn = (asked += 1);
  show(question, el("p", { class: "muted" }, "asking …"));
  let nodes;
  try {
    nodes = answered(question, await ask("ask", { question: number }));
  } catch (error) {
    nodes = [el("p", { class: "verdict bad" }, error.message)];
  }
  if (turn !== asked) return;
  show(question, ...nodes);
  // Said instead of the whole table: the costs, or the error.
  byId("said").textContent = nodes[0].innerText;
}

function show(question, ...nodes) {
  const words = question.note.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
  const note = question.note ? [el("p", { class: "muted small" }, ...words)] : [];
  byId("answer").replaceChildren(el("h3", {}, question.title), ...note, ...nodes);
}

function answered(question, told) {
  const cost = el(
    "p",
    { class: "cost muted small" },
    el("span", {}, milliseconds(told.seconds * 1000)),
    el("span", {}, `${plural(told.rows_read, "row")} read`),
    el("span", {}, `${bytes(told.bytes_read)} read`),
    el("span", {}, `${plural(told.count, "row")} in the answer`),
  );
  const statement = el(
    "details",
    {},
    el("summary", {}, "The statement"),
    el("pre", { tabindex: "0" }, question.statement),
  );
  if (!told.rows.length) return [cost, el("p", { class: "empty" }, "No rows: there are no such events yet."), statement];
  return [cost, chart(told.chart, question.title), table(told, question.title), statement];
}

function table(told, title) {
  const isNumber = told.columns.map((column) => /Int|Float|Decimal/.test(column.type));
  const place = (index) => (isNumber[index] ? "right" : null);
  const head = told.columns.map((column, index) => el("th", { scope: "col", class: place(index) }, column.name));
  const rows = told.rows.map((row) =>
    el("tr", {}, ...row.map((cell, index) => el("td", { class: place(index), title: cell.length > 40 ? cell : null }, cell))),
  );
  const cut = told.count > told.rows.length ? el("p", { class: "muted small" }, `the first ${told.rows.length} rows`) : "";
  const frame = el("div", { class: "result", role: "region", "aria-label": `Answer: ${title}`, tabindex: "0" });
  frame.append(el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)));
  return el("div", {}, frame, cut);
}
