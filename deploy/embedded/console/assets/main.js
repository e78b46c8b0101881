// Starts the parts of the page.
import { look, startLive } from "./live.js";
import { ask, byId, el } from "./page.js";
import { startQuestions } from "./questions.js";
import { startRow } from "./row.js";
import { startSend } from "./send.js";

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  localStorage.setItem("headrace.console.theme", name);
}

function startTheme() {
  const kept = localStorage.getItem("headrace.console.theme");
  let now = THEMES.includes(kept) ? kept : "auto";
  theme(now);
  byId("theme").addEventListener("click", () => {
    now = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    theme(now);
  });
}

function startTraffic(modes) {
  const rates = Object.entries(modes).filter(([name]) => name.startsWith("live-"));
  byId("mode").replaceChildren(...rates.map(([name, label]) => el("option", { value: name }, label)));
  byId("mode").value = "live-50";
  const isOn = () => byId("switch").getAttribute("aria-checked") === "true";
  const turn = async (mode) => {
    try {
      await ask("traffic", { mode });
    } catch (error) {
      byId("traffic-note").textContent = error.message;
    }
    look();
  };
  byId("switch").addEventListener("click", () => turn(isOn() ? "" : byId("mode").value));
  byId("mode").addEventListener("change", () => isOn() && turn(byId("mode").value));
  byId("past").addEventListener("click", () => turn("past"));
  if (rates.length) return;
  for (const id of ["switch", "mode", "past"]) byId(id).disabled = true;
  byId("traffic-note").textContent = "bench.traffic is not installed: run headrace from its checkout.";
}

async function start() {
  startTheme();
  startRow();
  startLive();
  const told = await ask("start");
  startTraffic(told.modes);
  startQuestions(told.questions);
  await startSend(told);
}

start().catch((error) => {
  byId("problems").hidden = false;
  byId("problems").textContent = error.message;
});
