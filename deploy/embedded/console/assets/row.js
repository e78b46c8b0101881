// The dialog with all values of one row.
import { ask, byId, el } from "./page.js";

export async function showRow(id) {
  try {
    openRow((await ask("event", { id })).row);
  } catch (error) {
    openRow({ error: error.message });
  }
}

export function openRow(row) {
  byId("row-title").textContent = row.event_type ? `The row of a ${row.event_type}` : "The row";
  const pairs = Object.entries(row).map(([name, value]) => [
    el("dt", {}, name),
    el("dd", {}, typeof value === "object" ? JSON.stringify(value, null, 1) : String(value)),
  ]);
  byId("row-values").replaceChildren(...pairs.flat());
  byId("row").showModal();
}

export function startRow() {
  byId("row-close").addEventListener("click", () => byId("row").close());
}
