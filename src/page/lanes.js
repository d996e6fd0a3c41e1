// Slots over time: a lane each, the last minute from left to right.

import { el, svg } from "./dom.js";

const SPAN_S = 60;
const STATES = ["waiting", "restore", "prefill", "decode"];

export function lanes() {
  /** Stretches by slot, oldest first: `{ state, task, from, to }`, in seconds. */
  const stretches = [];
  const names = el("div", { class: "lane-names" });
  const chart = svg("svg", { class: "lanes", preserveAspectRatio: "none", role: "img" });
  const paths = STATES.map((state) => chart.appendChild(svg("path", { class: state })));
  const legend = STATES.map((state) => el("span", {}, el("i", { class: state }), state));
  const root = el("div", {},
    el("div", { class: "lane-chart" }, names, chart),
    el("p", { class: "legend" }, ...legend, el("span", { class: "span" }, `last ${SPAN_S} s`)));

  /** What `/slots` said at `now`; the time since `before` was as it says. */
  function add(slots, before, now) {
    for (const slot of slots) {
      const lane = (stretches[slot.id] ??= []);
      const last = lane.at(-1);
      while (lane.length > 0 && lane[0].to < now - SPAN_S) lane.shift();
      if (slot.state === "idle") continue;
      // It may have come since the last look, and its age says when.
      const from = Math.max(before, now - slot.age_s);
      if (last?.state === slot.state && last.task === slot.id_task && last.to >= before - 0.01) last.to = now;
      else lane.push({ state: slot.state, task: slot.id_task, from, to: now });
    }
    draw(slots, now);
  }

  function draw(slots, now) {
    chart.setAttribute("viewBox", `0 0 ${SPAN_S} ${slots.length}`);
    chart.style.height = `${Math.max(2, Math.min(slots.length * 1.5, 24))}rem`;
    const boxes = STATES.map(() => "");
    for (const [id, lane] of stretches.entries()) {
      for (const { state, from, to } of lane ?? []) {
        const x = Math.max(0, from - now + SPAN_S);
        const width = Math.max(0.15, to - now + SPAN_S - x);
        boxes[STATES.indexOf(state)] += `M${x.toFixed(2)} ${id + 0.15}h${width.toFixed(2)}v.7h${-width.toFixed(2)}z`;
      }
    }
    paths.forEach((path, i) => path.setAttribute("d", boxes[i]));
    names.replaceChildren(...slots.map((slot) => el("span", { title: told(slot) }, String(slot.id) + pace(slot))));
    chart.setAttribute("aria-label", slots.map(told).join("; "));
  }

  return { root, add };
}

/** Tokens a step, where guesses make them more than one. */
function pace(slot) {
  return slot.tokens_per_step >= 1.05 ? ` ×${slot.tokens_per_step.toFixed(1)}` : "";
}

function told(slot) {
  if (slot.state === "idle") return `slot ${slot.id} idle`;
  const cached = slot.n_prompt_tokens_cache ? `, ${slot.n_prompt_tokens_cache} of them cached` : "";
  return `slot ${slot.id} ${slot.state}: ${slot.n_prompt_tokens} prompt tokens${cached}, ` +
    `${slot.next_token[0].n_decoded} generated` + (pace(slot) && `, ${slot.tokens_per_step.toFixed(1)} tokens a step`);
}
