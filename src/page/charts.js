// Small charts: a line over time, bars of a histogram.

import { el, svg } from "./dom.js";
import { quantile } from "./prometheus.js";

/** A figure with a name: its value now, and a line of the last ones. */
export function line(name) {
  const POINTS = 120;
  const values = [];
  const number = el("output", {}, "0");
  const path = svg("path");
  const chart = svg("svg", { viewBox: `0 0 ${POINTS - 1} 20`, preserveAspectRatio: "none", "aria-hidden": "true" }, path);
  const root = el("section", { class: "line" }, el("h3", {}, name), number, chart);
  /** `most`: what the full height stands for; without it the largest value so far on the screen. */
  const add = (value, text, most) => {
    values.push(value);
    if (values.length > POINTS) values.shift();
    const top = most ?? Math.max(...values, 1e-9);
    const points = values.map((v, i) => `${POINTS - values.length + i} ${(19 - (v / top) * 18).toFixed(1)}`);
    path.setAttribute("d", `M${points.join("L")}`);
    number.textContent = text;
  };
  return { root, add };
}

/** As many fit under the bars side by side. */
const LABELS = 7;

/** A histogram with the bounds that hold something, one on either side. */
export function bars(name) {
  const number = el("output", {}, "none yet");
  const chart = el("div", { class: "bars", role: "img" });
  const root = el("section", { class: "histogram" }, el("h3", {}, name), number, chart);
  const show = (histogram) => {
    if (histogram.count === 0) return;
    const { bounds, counts } = histogram;
    const used = counts.flatMap((n, i) => (n > 0 ? [i] : []));
    const [from, to] = [Math.max(0, used[0] - 1), Math.min(counts.length - 1, used.at(-1) + 1)];
    const most = Math.max(...counts);
    const every = Math.ceil((to + 1 - from) / LABELS);
    chart.replaceChildren(...counts.slice(from, to + 1).map((n, i) => {
      const bound = seconds(bounds[from + i]);
      const bar = el("i", {});
      bar.style.height = `${(n / most) * 100}%`;
      return el("span", { title: `${n} up to ${bound}` }, bar, el("small", {}, i % every === 0 ? bound : ""));
    }));
    number.textContent = `half under ${seconds(quantile(histogram, 0.5))}, 95 % under ${seconds(quantile(histogram, 0.95))}`;
    chart.setAttribute("aria-label", `${name}: ${number.textContent}`);
  };
  return { root, show };
}

function seconds(s) {
  if (s === Infinity) return "more";
  if (s < 0.001) return `${+(s * 1e6).toPrecision(3)} µs`;
  return s < 1 ? `${+(s * 1e3).toPrecision(3)} ms` : `${+s.toPrecision(3)} s`;
}
