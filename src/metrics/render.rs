//! The counters as Prometheus text, format 0.0.4. Runs on the HTTP thread that answers `/metrics`; only reads.

use std::collections::HashSet;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use super::{Counter, CounterWriter, Histogram, Metrics, REJECT_CODES, SlotPhase};
use crate::types::{FinishReason, GuessSource};

/// The `Content-Type` of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The `Content-Type` for clients that ask for OpenMetrics.
pub const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Converts a text of `render` to OpenMetrics: the descriptions of counters have names without `_total`, and the end is
/// marked.
pub fn open_metrics(text: &str) -> String {
    let counters: HashSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut open = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|what| Some((what, line.strip_prefix(what)?)));
        let named = described.and_then(|(what, rest)| Some((what, rest.split_once(' ')?)));
        let _ = match named {
            Some((what, (name, rest))) if counters.contains(name) => {
                writeln!(open, "{what}{} {rest}", name.trim_end_matches("_total"))
            }
            _ => writeln!(open, "{line}"),
        };
    }
    open + "# EOF\n"
}

/// The label of each finish reason. (In JSON two of them have the name `stop`.)
const FINISHED: [(FinishReason, &str); 9] = [
    (FinishReason::Eos, "eos"),
    (FinishReason::Stop, "stop"),
    (FinishReason::Length, "length"),
    (FinishReason::Deadline, "deadline"),
    (FinishReason::Cancelled, "cancelled"),
    (FinishReason::Shutdown, "shutdown"),
    (FinishReason::EngineError, "error"),
    (FinishReason::Grammar, "grammar"),
    (FinishReason::Embedded, "embedded"),
];

/// vLLM's names: today's, and those of versions before 0.10.
const PREFIX_QUERIES: &[&str] = &["vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"];
const PREFIX_HITS: &[&str] = &["vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"];

impl Metrics {
    /// All metrics. `model` is the name that clients know; `now_us` is the time of the clock of `last_step_at_us`.
    pub fn render(&self, model: &str, now_us: u64) -> String {
        let mut page = Page { text: String::with_capacity(12 << 10), model: escaped(model) };
        page.head("cllm_build_info", "gauge", "The server's version and its model.");
        let build = format!("{{model_name=\"{}\",version=\"{}\"}}", page.model, env!("CARGO_PKG_VERSION"));
        page.line("cllm_build_info", &build, 1);

        self.render_requests(&mut page);
        self.render_tokens(&mut page);
        self.render_steps(&mut page);
        self.moves.render(&mut page);
        if let Some(counts) = self.kv_events.get() {
            counts.render(&mut page);
        }
        self.render_load(&mut page, now_us);
        self.render_load_as_vllm(&mut page);
        self.render_tokens_as_vllm(&mut page);
        page.text
    }

    /// How requests ended, and what HTTP threads counted.
    fn render_requests(&self, page: &mut Page) {
        let (engine, http) = (&self.engine, &self.http);
        page.head("cllm_requests_finished_total", "counter", "Requests that ended, by reason.");
        for (reason, label) in FINISHED {
            page.line(
                "cllm_requests_finished_total",
                &format!("{{reason=\"{label}\"}}"),
                engine.finished(reason).get(),
            );
        }
        page.head("cllm_requests_rejected_total", "counter", "Requests refused before the engine saw them, by code.");
        for code in REJECT_CODES {
            page.line("cllm_requests_rejected_total", &format!("{{code=\"{code}\"}}"), http.rejected(code).get());
        }
        page.head("cllm_http_answers_total", "counter", "HTTP answers by hundreds of their status.");
        for hundred in 1..=5 {
            let label = format!("{{status=\"{hundred}xx\"}}");
            page.line("cllm_http_answers_total", &label, http.answers(hundred * 100).get());
        }
        page.counter("cllm_ring_full_total", "Requests that found the queue full.", &http.ring_full);
        page.counter("cllm_stream_writes_total", "Writes of event streams.", &http.stream_writes);
    }

    /// Tokens of prompts, generated tokens, and guesses.
    fn render_tokens(&self, page: &mut Page) {
        let engine = &self.engine;
        page.counter("cllm_prompt_tokens_total", "Tokens of admitted prompts.", &engine.prompt_tokens);
        page.counter("cllm_prompt_tokens_decoded_total", "Prompt tokens decoded.", &engine.prompt_tokens_decoded);
        page.counter(
            "cllm_prompt_tokens_cached_total",
            "Prompt tokens taken from the KV cache.",
            &engine.prompt_tokens_cached,
        );
        page.counter("cllm_generated_tokens_total", "Tokens generated.", &engine.generated_tokens);
        for (name, help, counters) in [
            ("cllm_guesses_total", "Guesses of next tokens that had a row, by where they came from.", &engine.guesses),
            (
                "cllm_guesses_accepted_total",
                "Guesses that came true: tokens without a step of their own.",
                &engine.guesses_accepted,
            ),
        ] {
            page.head(name, "counter", help);
            for source in GuessSource::ALL {
                page.line(name, &format!("{{source=\"{}\"}}", source.as_str()), counters[source as usize].get());
            }
        }
        page.counter("cllm_embeddings_total", "Inputs whose embedding was made.", &engine.embeddings);
    }

    /// Steps, their outcomes, and what the engine did to make room.
    fn render_steps(&self, page: &mut Page) {
        let engine = &self.engine;
        page.counter("cllm_steps_total", "Steps: calls of llama_decode.", &engine.steps);
        page.counter("cllm_rows_total", "Rows of those steps, one a token.", &engine.rows);
        page.head("cllm_steps_failed_total", "counter", "Steps that didn't succeed, by outcome.");
        for (outcome, counter) in [
            ("no_room", &engine.steps_no_room),
            ("partial", &engine.steps_partial),
            ("invalid", &engine.steps_invalid),
            ("fatal", &engine.steps_fatal),
        ] {
            page.line("cllm_steps_failed_total", &format!("{{outcome=\"{outcome}\"}}"), counter.get());
        }
        page.counter("cllm_evictions_total", "Cached sequences dropped to make room.", &engine.evictions);
        let (kept, used) = (&engine.checkpoints_kept, &engine.checkpoints_used);
        page.counter("cllm_checkpoints_kept_total", "States of recurrent models kept at checkpoints.", kept);
        page.counter("cllm_checkpoints_used_total", "Requests that went on from a checkpoint.", used);
        page.gauge("cllm_checkpoint_bytes", "Bytes of all checkpoints.", engine.checkpoint_bytes.get());
        page.counter(
            "cllm_masks_awaited_total",
            "Tokens that came after their step, for want of a mask.",
            &engine.masks_awaited,
        );
        page.counter(
            "cllm_gave_way_total",
            "Running batch requests that gave way to interactive ones.",
            &engine.gave_way,
        );
        page.counter(
            "cllm_preemptions_total",
            "Running requests preempted to make room; they go on later.",
            &engine.preemptions,
        );
    }

    /// What waits, runs and is held now, and how long steps take.
    fn render_load(&self, page: &mut Page, now_us: u64) {
        let engine = &self.engine;
        let (waiting, running) = (engine.waiting.get(), engine.running.get());
        let (used, total) = (engine.kv_cells_used.get(), engine.kv_cells_total.get());
        page.gauge("cllm_requests_waiting", "Requests waiting for a slot.", waiting);
        page.gauge("cllm_requests_running", "Requests in a slot.", running);
        page.gauge("cllm_kv_cells_used", "Cells of the KV cache that hold a token.", used);
        page.gauge("cllm_kv_cells_total", "Cells of the KV cache.", total);
        self.prompts.render(page);
        if let Some(age_us) = engine.step_age_us(now_us) {
            page.gauge("cllm_last_step_age_seconds", "Time since the latest step ended.", Seconds(age_us));
        }
        page.histogram("cllm_step_duration_seconds", "Duration of one step.", "", &engine.step);
    }

    /// What waits, runs and is held, under the names that gateways and dashboards made for vLLM read.
    fn render_load_as_vllm(&self, page: &mut Page) {
        let (waiting, running) = (self.engine.waiting.get(), self.engine.running.get());
        let total = self.engine.kv_cells_total.get();
        let label = format!("model_name=\"{}\"", page.model);
        let braced = format!("{{{label}}}");
        let usage = if total == 0 { 0.0 } else { (self.cells_in_use() as f64 / total as f64).min(1.0) };
        page.head("vllm:num_requests_waiting", "gauge", "Requests waiting for a slot.");
        page.line("vllm:num_requests_waiting", &braced, waiting);
        page.head("vllm:num_requests_running", "gauge", "Requests in a slot.");
        page.line("vllm:num_requests_running", &braced, running);
        // The second name is that of vLLM before version 0.10.
        for name in ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"] {
            page.head(name, "gauge", "Share of the KV cache that running requests use, 0 to 1.");
            page.line(name, &braced, usage);
        }
        page.head("vllm:cache_config_info", "gauge", "Size of the KV cache, in blocks of tokens.");
        // The cache is kept by single tokens. Routers cut prompts into blocks of this size to estimate what a server
        // holds.
        let block_tokens = self.kv_block_tokens.get().max(1);
        let blocks = total / block_tokens;
        let cache = format!(
            "{{{label},block_size=\"{block_tokens}\",num_gpu_blocks=\"{blocks}\",enable_prefix_caching=\"True\"}}"
        );
        page.line("vllm:cache_config_info", &cache, 1);
    }

    /// Tokens and times of requests, under vLLM's names.
    fn render_tokens_as_vllm(&self, page: &mut Page) {
        let (engine, http) = (&self.engine, &self.http);
        let label = format!("model_name=\"{}\"", page.model);
        let braced = format!("{{{label}}}");
        for (names, help, counter) in [
            (
                PREFIX_QUERIES,
                "Tokens of admitted prompts, which were looked up in the KV cache.",
                &engine.prompt_tokens,
            ),
            (PREFIX_HITS, "Those that the KV cache had.", &engine.prompt_tokens_cached),
            (&["vllm:prompt_tokens_total"], "Tokens of admitted prompts.", &engine.prompt_tokens),
            (&["vllm:generation_tokens_total"], "Tokens generated.", &engine.generated_tokens),
            (
                &["vllm:num_preemptions_total"],
                "Running requests preempted to make room; they go on later.",
                &engine.preemptions,
            ),
        ] {
            for name in names {
                page.head(name, "counter", help);
                page.line(name, &braced, counter.get());
            }
        }
        page.histogram(
            "vllm:time_to_first_token_seconds",
            "Arrival to first generated token.",
            &label,
            &engine.time_to_first_token,
        );
        page.histogram(
            "vllm:time_per_output_token_seconds",
            "Time between two tokens of one request.",
            &label,
            &engine.time_per_output_token,
        );
        page.histogram(
            "vllm:e2e_request_latency_seconds",
            "First byte of a request to the last of its answer.",
            &label,
            &http.e2e_latency,
        );
        page.histogram(
            "vllm:request_queue_time_seconds",
            "Arrival to admission into a slot.",
            &label,
            &engine.queue_time,
        );
    }

    /// KV cells of running requests; a cell that several requests share counts for each. Cells left by finished
    /// requests don't count, as in vLLM, because any request may take them: a router that saw a warm cache as a full
    /// one would send no requests.
    fn cells_in_use(&self) -> u64 {
        self.slots.iter().filter(|slot| SlotPhase::of(slot.phase.get()).is_some()).map(|slot| slot.n_past.get()).sum()
    }
}

/// The text so far. Writing to a `String` can't fail, so the results of `writeln!` are ignored.
pub(super) struct Page {
    text: String,
    /// The model's name, escaped for a label.
    model: String,
}

impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    pub(super) fn counter<W: CounterWriter>(&mut self, name: &str, help: &str, counter: &Counter<W>) {
        self.head(name, "counter", help);
        self.line(name, "", counter.get());
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, "", value);
    }

    /// `label`: `name="value"` for every line, or empty.
    fn histogram<W: CounterWriter>(&mut self, name: &str, help: &str, label: &str, histogram: &Histogram<W>) {
        self.head(name, "histogram", help);
        let (comma, braced) = if label.is_empty() { ("", String::new()) } else { (",", format!("{{{label}}}")) };
        let mut below = 0;
        for (i, bucket) in histogram.buckets.iter().enumerate().take(histogram.bounds_us.len() + 1) {
            // ORDERING: Relaxed; see `CounterWriter::add`. Each bucket is read once, so the sums are consistent.
            below += bucket.load(Ordering::Relaxed);
            let _ = match histogram.bounds_us.get(i) {
                Some(&bound) => {
                    writeln!(self.text, "{name}_bucket{{{label}{comma}le=\"{}\"}} {below}", Seconds(bound))
                }
                None => writeln!(self.text, "{name}_bucket{{{label}{comma}le=\"+Inf\"}} {below}"),
            };
        }
        self.line(&format!("{name}_sum"), &braced, Seconds(histogram.sum_us()));
        self.line(&format!("{name}_count"), &braced, below);
    }
}

/// A number of microseconds, shown in seconds.
pub(super) struct Seconds(pub(super) u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0 as f64 / 1e6)
    }
}

/// The value of a label, escaped as the format requires.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
