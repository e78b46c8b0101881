// What every part of the page uses: elements, requests to the console's server, and how figures are written.

/** Return an element; strings among the children become text, never markup. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Ask the server; an error has its sentence. */
export async function ask(route, body) {
  const post = { method: "POST", headers: { "X-Headrace": "console" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(`api/${route}`, body === undefined ? {} : post);
  } catch {
    throw new Error("The console does not answer. Is headrace still running?");
  }
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.message);
  return told;
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export const count = (number) => whole.format(Math.round(number));
export const figure = (number) => (Number.isInteger(number) ? whole.format(number) : short.format(number));
export const rate = (number) => (number && number < 10 ? number.toFixed(1) : count(number));
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export function milliseconds(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; size >= 1000 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

/** Return a colour for a name: the same name has the same one. */
export function tone(name) {
  const known = { VIEW: 0, PING: 5, CLICK: 1, EXIT: 3, PURCHASE: 2, TRANSACTION: 4, REGISTRATION: 1 };
  if (name in known) return `var(--c${known[name]})`;
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 6;
  return `var(--c${sum})`;
}
