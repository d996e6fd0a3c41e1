// Where prompts came from: one sentence from the numbers of /metrics.

const TIERS = { ram: "RAM", disk: "the disk", file: "the program" };

const whole = (value) => Math.round(value).toLocaleString("en");

/** `now`: what `parse` made of /metrics. */
export function told(now) {
  const [read, cached] = [now.value("cllm_prompt_tokens_decoded_total"), now.value("cllm_prompt_tokens_cached_total")];
  const of = (name, tier) => now.value(name, `tier="${tier}"`);
  const tiers = Object.entries(TIERS)
    .map(([tier, words]) => [of("cllm_prompt_restored_tokens_total", tier), of("cllm_prompt_restored_bytes_total", tier), words])
    .filter(([tokens]) => tokens > 0);
  const restored = tiers.reduce((sum, [tokens]) => sum + tokens, 0);
  const parts = [`${whole(read)} tokens read`, `${whole(cached - restored)} from KV cells`];
  for (const [tokens, bytes, words] of tiers) parts.push(`${whole(tokens)} from ${words} (${whole(bytes / 1e6)} MB)`);
  const cost = (what) => now.value("cllm_prompt_cost_seconds", `of="${what}"`);
  const ms = (seconds) => `${(seconds * 1000).toPrecision(2)} ms`;
  const costs = restored > 0
    ? ` Lately a token took ${ms(cost("read_token"))} to read, a block of tokens ${ms(cost("restore_block"))} to restore.` : "";
  return `Prompts: ${parts.join(", ")}.${costs}`;
}
