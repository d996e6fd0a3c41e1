//! Parses the rendered page with a strict parser.

use std::collections::BTreeMap;

use super::*;

/// Name -> type, and (name, labels) -> value. Panics on anything that the format doesn't allow.
struct Parsed {
    kinds: BTreeMap<String, String>,
    values: BTreeMap<(String, Vec<(String, String)>), f64>,
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn parse(text: &str) -> Parsed {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut parsed = Parsed { kinds: BTreeMap::new(), values: BTreeMap::new() };
    let mut helped = String::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("HELP has a text");
            assert!(is_name(name) && !help.is_empty(), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("TYPE has a type");
            assert_eq!(name, helped, "HELP comes right before TYPE");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(parsed.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has two types");
            family = name.to_owned();
        } else {
            let (key, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = match key.split_once('{') {
                Some((name, rest)) => (name, parse_labels(rest)),
                None => (key, Vec::new()),
            };
            assert!(is_name(name), "{line}");
            let suffix = name.strip_prefix(family.as_str()).expect("samples follow their TYPE");
            let histogram = parsed.kinds[&family] == "histogram";
            assert!(
                if histogram { ["_bucket", "_sum", "_count"].contains(&suffix) } else { suffix.is_empty() },
                "{line}"
            );
            assert!(parsed.kinds[&family] != "counter" || family.ends_with("_total"), "{family} should end in _total");
            let value: f64 = value.parse().expect("a value is a number");
            assert!(parsed.values.insert((name.to_owned(), labels), value).is_none(), "{line} twice");
        }
    }
    parsed
}

/// `a="b",c="d"}` -> pairs, unescaped.
fn parse_labels(mut rest: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label has a quoted value");
        assert!(is_name(name) && !name.contains(':'), "label {name}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("a label's value ends") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("an escape is complete").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("\\{c} is no escape"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        match &after[end + 1..] {
            "}" => return labels,
            more => rest = more.strip_prefix(',').expect("a comma between labels"),
        }
    }
}

impl Parsed {
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let key = (name.to_owned(), labels);
        *self.values.get(&key).unwrap_or_else(|| panic!("no {key:?}"))
    }
}

#[test]
fn the_page_is_valid_and_says_what_was_counted() {
    let metrics = Metrics::default();
    metrics.engine.finished(FinishReason::Eos).add(2);
    metrics.engine.finished(FinishReason::EngineError).inc();
    metrics.engine.prompt_tokens.add(1000);
    metrics.engine.prompt_tokens_cached.add(600);
    metrics.engine.steps_partial.inc();
    metrics.engine.waiting.set(3);
    // One running request has 512 of the 1,024 cells; no other request runs.
    metrics.engine.kv_cells_used.set(1024);
    metrics.slots[1].phase.set(SlotPhase::Decoding as u64);
    metrics.slots[1].n_past.set(512);
    metrics.slots[2].n_past.set(512);
    metrics.engine.kv_cells_total.set(4096);
    metrics.engine.last_step_at_us.set(1_000_000);
    metrics.http.count_rejected(&RequestError::QueueFull { retry_after_s: 1 });
    metrics.http.rejected("method_not_allowed").inc();
    metrics.http.answers(200).add(5);
    metrics.http.answers(429).inc();

    let model = "odd \"name\" \\ of\ntwo lines";
    let page = parse(&metrics.render(model, 3_500_000));
    assert_eq!(page.value("cllm_requests_finished_total", &[("reason", "eos")]), 2.0);
    assert_eq!(page.value("cllm_requests_finished_total", &[("reason", "error")]), 1.0);
    assert_eq!(page.value("cllm_requests_rejected_total", &[("code", "queue_full")]), 1.0);
    assert_eq!(page.value("cllm_requests_rejected_total", &[("code", "other")]), 1.0);
    assert_eq!(page.value("cllm_http_answers_total", &[("status", "2xx")]), 5.0);
    assert_eq!(page.value("cllm_http_answers_total", &[("status", "4xx")]), 1.0);
    assert_eq!(page.value("cllm_prompt_tokens_cached_total", &[]), 600.0);
    assert_eq!(page.value("cllm_steps_failed_total", &[("outcome", "partial")]), 1.0);
    assert_eq!(page.value("cllm_last_step_age_seconds", &[]), 2.5);
    assert_eq!(page.value("vllm:num_requests_waiting", &[("model_name", model)]), 3.0);
    for name in ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"] {
        assert_eq!(page.value(name, &[("model_name", model)]), 0.125);
    }
    let cache =
        [("model_name", model), ("block_size", "16"), ("num_gpu_blocks", "256"), ("enable_prefix_caching", "True")];
    assert_eq!(page.value("vllm:cache_config_info", &cache), 1.0);
    for (name, value) in [("queries", 1000.0), ("hits", 600.0)] {
        for prefix in ["", "gpu_"] {
            assert_eq!(page.value(&format!("vllm:{prefix}prefix_cache_{name}_total"), &[("model_name", model)]), value);
        }
    }
    assert_eq!(page.value("vllm:prompt_tokens_total", &[("model_name", model)]), 1000.0);
    for histogram in ["time_to_first_token", "time_per_output_token", "e2e_request_latency", "request_queue_time"] {
        assert_eq!(page.kinds[&format!("vllm:{histogram}_seconds")], "histogram");
    }
}

#[test]
fn keys_have_lines_of_their_own() {
    assert_eq!(render_keys(&[]), "", "none without keys");
    let counts = [KeyCounts::default(), KeyCounts::default()];
    counts[1].generated_tokens.add(7);
    counts[1].waited_us.add(2_500_000);
    let page = parse(&render_keys(&[("chat", &counts[0]), ("night", &counts[1])]));
    assert_eq!(page.value("cllm_key_generated_tokens_total", &[("key", "night")]), 7.0);
    assert_eq!(page.value("cllm_key_wait_seconds_total", &[("key", "night")]), 2.5);
    assert_eq!(page.value("cllm_key_requests_total", &[("key", "chat")]), 0.0);
}

#[test]
fn buckets_are_cumulative_and_their_last_is_the_count() {
    let metrics = Metrics::default();
    // One value at a bound (inclusive), one just above it, one above the last bound.
    for us in [0, 1_000, 1_001, 5_000, 999_000_000] {
        metrics.engine.time_to_first_token.record_us(us);
    }
    let page = parse(&metrics.render("m", 0));
    let name = "vllm:time_to_first_token_seconds";
    let bucket = |le: &str| page.value(&format!("{name}_bucket"), &[("model_name", "m"), ("le", le)]);
    assert_eq!((bucket("0.001"), bucket("0.005"), bucket("160"), bucket("+Inf")), (2.0, 4.0, 4.0, 5.0));
    assert_eq!(page.value(&format!("{name}_count"), &[("model_name", "m")]), 5.0);
    assert_eq!(page.value(&format!("{name}_sum"), &[("model_name", "m")]), 999.007_001);

    for family in page.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
        let mut buckets: Vec<(f64, f64)> = page
            .values
            .iter()
            .filter(|((name, _), _)| *name == format!("{family}_bucket"))
            .map(|((_, labels), value)| (labels.last().unwrap().1.replace("+Inf", "inf").parse().unwrap(), *value))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{family} isn't cumulative");
        assert_eq!(buckets.last().unwrap().0, f64::INFINITY, "{family} has no +Inf");
    }
}

#[test]
fn many_threads_lose_no_count() {
    let metrics = Metrics::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|us| metrics.http.e2e_latency.record_us(us)));
        }
    });
    assert_eq!((metrics.http.e2e_latency.count(), metrics.http.e2e_latency.sum_us()), (40_000, 4 * 49_995_000));
}

#[test]
fn open_metrics_describes_counters_and_no_gauges_without_total_and_marks_the_end() {
    let text = "# HELP a_total Of a_total.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n# HELP g_total In_total here.\n# TYPE g_total gauge\ng_total 2\n";
    let open = super::open_metrics(text);
    let wanted = "# HELP a Of a_total.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP g_total In_total here.\n# TYPE g_total gauge\ng_total 2\n# EOF\n";
    assert_eq!(open, wanted);
}
