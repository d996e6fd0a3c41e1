// System prompt and sampling. A field left empty is not sent: the server's own default holds.

import { button, byId, el } from "./dom.js";

const STORE = "cllm.settings";

const NUMBERS = [
  ["temperature", "Temperature", { min: 0, max: 10, step: 0.05 }, "0 takes the most likely token"],
  ["top_p", "Top p", { min: 0, max: 1, step: 0.01 }, "least mass of tokens to choose among"],
  ["top_k", "Top k", { min: 0, max: 1000, step: 1 }, "0 is all"],
  ["min_p", "Min p", { min: 0, max: 1, step: 0.01 }, "share of the best token's probability"],
  ["repetition_penalty", "Repetition penalty", { min: 0.1, max: 10, step: 0.05 }, "1 is none"],
  ["max_tokens", "Most tokens", { min: 1, step: 1 }, "an answer ends there"],
  ["seed", "Seed", { min: 0, step: 1 }, "the same seed gives the same answer"],
];

let settings = read();

function read() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}

/** The system prompt, or "". */
export const systemPrompt = () => settings.system ?? "";

/** Fields for a request. */
export function sampling() {
  return Object.fromEntries(NUMBERS.map(([name]) => [name, settings[name]]).filter(([, value]) => value !== undefined));
}

/** Shows the dialog. */
export function openSettings() {
  const dialog = byId("settings");
  const system = el("textarea", { id: "system", rows: 4, value: systemPrompt(), placeholder: "none" });
  const rows = NUMBERS.map(([name, label, bounds, hint]) => {
    const input = el("input", { id: name, type: "number", ...bounds, value: settings[name] ?? "", placeholder: "default" });
    return [name, input, el("label", {}, el("span", {}, label, el("small", {}, hint)), input)];
  });
  const keep = () => {
    settings = system.value.trim() ? { system: system.value } : {};
    for (const [name, input] of rows) {
      if (input.value !== "" && input.validity.valid) settings[name] = input.valueAsNumber;
    }
    localStorage.setItem(STORE, JSON.stringify(settings));
  };
  const reset = () => {
    for (const input of [system, ...rows.map((row) => row[1])]) input.value = "";
  };
  dialog.replaceChildren(
    el("form", { method: "dialog", onsubmit: keep },
      el("h2", { id: "settings-title" }, "Settings"),
      el("label", { class: "tall" }, "System prompt", system),
      ...rows.map((row) => row[2]),
      el("p", { class: "actions" }, button("Defaults", reset), el("button", { class: "primary" }, "Keep"))));
  dialog.showModal();
}
