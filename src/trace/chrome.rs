//! Steps as Chrome's trace events: spans of the batching thread, one within the other, and counters above them.

use std::fmt::Write;

use super::StepTrace;

/// The whole document. `lost`: steps that are missing from it. Times are microseconds, as the format wants them.
pub fn write_timeline(steps: &[StepTrace], lost: u64) -> String {
    // About 640 bytes a step.
    let mut out = String::with_capacity(256 + steps.len() * 700);
    out += "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n\
            {\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"cllm\"}},\n\
            {\"ph\":\"M\",\"pid\":1,\"tid\":1,\"name\":\"thread_name\",\"args\":{\"name\":\"batch\"}}";
    for step in steps {
        // Writing to a `String` can't fail.
        let _ = write_step(step, &mut out);
    }
    let _ = write!(out, "\n],\"otherData\":{{\"steps\":{},\"steps_lost\":{lost}}}}}\n", steps.len());
    out
}

fn write_step(step: &StepTrace, out: &mut String) -> std::fmt::Result {
    let StepTrace { begun_us, admitted_us, planned_us, decoded_us, ended_us, .. } = *step;
    let StepTrace { rows, tokens, waiting, running, .. } = *step;
    // Each row is sampled and replied to before the next; the timeline shows the two as one span each.
    let sampled_us = decoded_us.saturating_add(step.sample_us).min(ended_us);
    span(out, "step", begun_us, ended_us)?;
    write!(out, ",\"args\":{{\"rows\":{rows},\"tokens\":{tokens}}}}}")?;
    let parts = [
        ("admit", begun_us, admitted_us),
        ("plan", admitted_us, planned_us),
        ("decode", planned_us, decoded_us),
        ("sample", decoded_us, sampled_us),
        ("reply", sampled_us, ended_us),
    ];
    for (name, from_us, to_us) in parts {
        span(out, name, from_us, to_us)?;
        out.push('}');
    }
    write!(out, ",\n{{\"ph\":\"C\",\"pid\":1,\"name\":\"rows\",\"ts\":{begun_us},\"args\":{{\"rows\":{rows}}}}}")?;
    write!(
        out,
        ",\n{{\"ph\":\"C\",\"pid\":1,\"name\":\"tokens\",\"ts\":{begun_us},\"args\":{{\"tokens\":{tokens}}}}}"
    )?;
    write!(
        out,
        ",\n{{\"ph\":\"C\",\"pid\":1,\"name\":\"requests\",\"ts\":{begun_us},\
         \"args\":{{\"waiting\":{waiting},\"running\":{running}}}}}"
    )
}

/// A span without its closing brace.
fn span(out: &mut String, name: &str, from_us: u64, to_us: u64) -> std::fmt::Result {
    let dur = to_us.saturating_sub(from_us);
    write!(out, ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"name\":\"{name}\",\"ts\":{from_us},\"dur\":{dur}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_parts_of_a_step_follow_each_other_and_fill_it() {
        let step = StepTrace {
            begun_us: 10,
            admitted_us: 12,
            planned_us: 15,
            decoded_us: 40,
            ended_us: 50,
            sample_us: 6,
            rows: 3,
            tokens: 2,
            waiting: 4,
            running: 1,
        };
        let document: Value = serde_json::from_str(&write_timeline(&[step], 7)).unwrap();
        let events = document["traceEvents"].as_array().unwrap();
        let spans: Vec<(&str, u64, u64)> = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|event| {
                (event["name"].as_str().unwrap(), event["ts"].as_u64().unwrap(), event["dur"].as_u64().unwrap())
            })
            .collect();
        let parts = [("admit", 10, 2), ("plan", 12, 3), ("decode", 15, 25), ("sample", 40, 6), ("reply", 46, 4)];
        assert_eq!(spans[0], ("step", 10, 40));
        assert_eq!(spans[1..], parts);
        let counters: Vec<&Value> =
            events.iter().filter(|event| event["ph"] == "C").map(|event| &event["args"]).collect();
        let wanted = [
            serde_json::json!({"rows": 3}),
            serde_json::json!({"tokens": 2}),
            serde_json::json!({"waiting": 4, "running": 1}),
        ];
        assert!(counters.into_iter().eq(wanted.iter()));
        assert_eq!(document["otherData"], serde_json::json!({"steps": 1, "steps_lost": 7}));
    }
}
