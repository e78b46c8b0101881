// Draws charts. The table beside each has the same figures, so a chart is one image with a name for screen readers.
import { el, figure, plural, tone } from "./page.js";

const COLUMNS_MIN = 12; // two days are two columns, not two walls
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, title) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (title) {
    const text = document.createElementNS(SVG, "title");
    text.textContent = title;
    node.append(text);
  }
  return node;
}

/** Draw a column for each of `points`: its place, value, title, and colour. Values above `top` are cut. */
function columns(points, { height, places, share, top }) {
  const low = Math.min(0, ...points.map((point) => point.value ?? 0));
  const step = 1000 / Math.max(places, 1);
  const scale = height / (top - low || 1);
  const image = svg("svg", { viewBox: `0 0 1000 ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const { place, value, title, color } of points) {
    if (value == null) continue;
    const tall = value ? Math.max(1, Math.min(Math.abs(value), value < 0 ? -low : top) * scale) : 0;
    const y = value < 0 ? top * scale : top * scale - tall;
    const bar = svg("rect", { x: place * step, y, width: step * share, height: tall }, title);
    if (color) bar.style.fill = color;
    image.append(bar);
  }
  return image;
}

/**
 * Return the rows of each second; the last two seconds are still open: their batches may be under way.
 * A burst beyond `top` is cut, so that it does not flatten everything else.
 */
export function seconds(values, top) {
  const points = values.map((value, place) => ({ place, value, title: `${value} events` }));
  const image = columns(points, { height: 100, places: values.length, share: 0.75, top });
  [...image.children].slice(-2).forEach((bar) => bar.classList.add("open"));
  return image;
}

/** Return a list of names with bars. */
export function bars(pairs, { name, isBad = false }) {
  const top = Math.max(...pairs.map(([, value]) => value), 0);
  const list = el("ul", { class: `bars${isBad ? " bad-bars" : ""}`, "aria-label": name });
  for (const [label, value] of pairs) {
    const bar = el("i", { "aria-hidden": "true" });
    bar.style.width = `${(100 * value) / (top || 1)}%`;
    list.append(el("li", {}, el("code", {}, label || "(none)"), el("div", { class: "track" }, bar, el("span", {}, figure(value)))));
  }
  return list;
}

function categories(chart) {
  const grid = el("div", { class: "bars" });
  grid.style.gridTemplateColumns = `minmax(5rem, 12rem) repeat(${chart.series.length}, minmax(4.5rem, 1fr))`;
  grid.append(el("span", {}), ...chart.series.map(([name]) => el("span", { class: "of" }, name)));
  const tops = chart.series.map(([, values]) => Math.max(...values.map((value) => Math.abs(value ?? 0)), 0) || 1);
  chart.labels.forEach((label, row) => {
    grid.append(el("span", { class: "name", title: label }, label || "(none)"));
    chart.series.forEach(([, values], index) => {
      const value = values[row];
      const bar = el("i", {});
      bar.style.width = `${(100 * Math.abs(value ?? 0)) / tops[index]}%`;
      bar.style.setProperty("--tone", `var(--c${index % 6})`);
      grid.append(el("div", { class: "track" }, bar, el("span", {}, value == null ? "∅" : figure(value))));
    });
  });
  return grid;
}

function overTime(chart) {
  const groups = [...new Set(chart.groups)];
  const color = (name) => `var(--c${groups.indexOf(name) % 6})`;
  const moments = [...new Set(chart.labels)];
  const panels = el("div", { class: "panels" });
  for (const [name, values] of chart.series) {
    const points = values.map((value, row) => ({
      place: moments.indexOf(chart.labels[row]) + (0.85 * groups.indexOf(chart.groups[row])) / groups.length,
      value,
      title: `${chart.labels[row]} ${chart.groups[row]} ${value}`,
      color: color(chart.groups[row]),
    }));
    const top = Math.max(0, ...values.map((value) => value ?? 0));
    const places = Math.max(moments.length, COLUMNS_MIN);
    const image = columns(points, { height: 130, places, share: 0.8 / groups.length, top });
    const head = el("p", { class: "of" }, el("span", {}, name), el("span", { class: "muted" }, `max ${figure(top)}`));
    const ends = [...new Set([moments[0], moments.at(-1)])].map((label) => el("span", {}, label));
    panels.append(el("div", { class: "panel" }, head, image, el("figcaption", {}, ...ends)));
  }
  return groups.length > 1 ? el("div", {}, legend(groups, color), panels) : panels;
}

function legend(groups, color) {
  const entries = groups.map((name) => {
    const dot = el("i", { class: "dot" });
    dot.style.setProperty("--tone", color(name));
    return el("span", {}, dot, name || "(none)");
  });
  return el("p", { class: "legend" }, ...entries);
}

function inTime(chart) {
  const at = chart.labels.map((label) => Date.parse(`${label.replace(" ", "T")}Z`));
  const first = Math.min(...at);
  const span = Math.max(...at) - first || 1;
  const lanes = [...new Set(chart.groups)].map((group) => {
    const lane = el("div", {});
    chart.groups.forEach((name, row) => {
      if (name !== group) return;
      const dot = el("i", { title: chart.labels[row] });
      dot.style.left = `${(100 * (at[row] - first)) / span}%`;
      dot.style.setProperty("--tone", tone(group));
      lane.append(dot);
    });
    return el("div", { class: "lane" }, el("span", {}, group || "(none)"), lane);
  });
  return el("div", {}, ...lanes);
}

const KINDS = { bars: categories, columns: overTime, dots: inTime };

/** Return the chart that the server chose for an answer, or nothing. */
export function chart(told, name) {
  if (told.kind === "number") {
    const [[label, [value]]] = told.series;
    const text = value == null ? "∅" : label === "share" ? `${figure(100 * value)} %` : figure(value);
    return el("p", { class: "one" }, text);
  }
  if (!(told.kind in KINDS)) return "";
  const image = el("div", { role: "img", "aria-label": `Chart: ${name}` }, KINDS[told.kind](told));
  const rest = told.left_out ? el("p", { class: "muted small" }, `${plural(told.left_out, "more row")} in the table`) : "";
  return el("div", {}, image, rest);
}
