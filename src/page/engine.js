// The live view: asks /slots and /metrics twice a second while the page is visible, and says what the limit is.

import { request } from "./api.js";
import { bars, line } from "./charts.js";
import { el } from "./dom.js";
import { lanes } from "./lanes.js";
import { told } from "./memory.js";
import { parse } from "./prometheus.js";

const PERIOD_MS = 500;
/** Above this share of time in steps the machine is as fast as it gets. */
const BUSY = 0.9;

/** Fills `panel`, and `verdict` with one sentence. */
export function watch(panel, verdict) {
  const parts = {
    decode: line("Generated tokens/s"),
    prefill: line("Prompt tokens/s"),
    busy: line("Time in llama_decode"),
    waiting: line("Queue"),
    running: line("Running"),
    kv: line("KV cells used"),
    lanes: lanes(),
    first: bars("Time to first token"),
    between: bars("Between two tokens"),
    prompts: el("p", { class: "hint", id: "prompts" }),
  };
  const { decode, prefill, busy, waiting, running, kv } = parts;
  panel.replaceChildren(
    el("h2", {}, "Slots"), parts.lanes.root,
    el("div", { class: "lines" }, ...[decode, prefill, busy, waiting, running, kv].map((part) => part.root)),
    parts.prompts, parts.first.root, parts.between.root,
    el("p", { class: "hint" }, "Histograms count from the start of the server."));

  let before = null;
  const look = async () => {
    if (!document.hidden) {
      try {
        const [slots, text] = await Promise.all([
          request("slots").then((response) => response.json()),
          request("metrics").then((response) => response.text()),
        ]);
        const now = { at: performance.now() / 1000, ...parse(text) };
        show(parts, verdict, slots, before ?? now, now);
        before = now;
      } catch (error) {
        // The next look may find the server again; what lies between is unknown.
        before = null;
        tell(verdict, "down", `No answer: ${error.message}`);
      }
    }
    setTimeout(look, PERIOD_MS);
  };
  look();
}

function show(parts, verdict, slots, before, now) {
  const elapsed = now.at - before.at;
  const rate = (name) => (elapsed > 0 ? Math.max(0, now.value(name) - before.value(name)) / elapsed : 0);
  const share = Math.min(1, rate("cllm_step_duration_seconds_sum"));
  const [waiting, running] = [now.value("cllm_requests_waiting"), now.value("cllm_requests_running")];
  const [used, total] = [now.value("cllm_kv_cells_used"), now.value("cllm_kv_cells_total")];
  const whole = (value) => Math.round(value).toLocaleString("en");
  const short = (value) => value.toLocaleString("en", { notation: "compact" });
  const percent = (value) => `${Math.round(value * 100)} %`;

  parts.lanes.add(slots, before.at, now.at);
  const [generated, read] = [rate("cllm_generated_tokens_total"), rate("cllm_prompt_tokens_decoded_total")];
  parts.decode.add(generated, whole(generated));
  parts.prefill.add(read, whole(read));
  parts.busy.add(share, percent(share), 1);
  parts.waiting.add(waiting, whole(waiting));
  parts.running.add(running, `${running} of ${slots.length}`, slots.length);
  parts.kv.add(total ? used / total : 0, `${percent(total ? used / total : 0)} of ${short(total)}`, 1);
  const prompts = told(now);
  if (parts.prompts.textContent !== prompts) parts.prompts.textContent = prompts;
  parts.first.show(now.histogram("vllm:time_to_first_token_seconds"));
  parts.between.show(now.histogram("vllm:time_per_output_token_seconds"));

  if (share >= BUSY && waiting > 0) tell(verdict, "full", `The machine is the limit; ${waiting} wait`);
  else if (share >= BUSY) tell(verdict, "busy", "The machine is the limit");
  else if (waiting > 0) tell(verdict, "full", `All slots taken; ${waiting} wait`);
  else if (running > 0) tell(verdict, "fine", `Room to spare: ${percent(share)} busy`);
  else tell(verdict, "idle", "Idle");
}

/** A status region speaks when its text changes, so it changes no more than it must. */
function tell(verdict, state, text) {
  verdict.dataset.state = state;
  if (verdict.textContent !== text) verdict.textContent = text;
}
