//! Writes steps as Chrome's trace events: nested spans for each batching thread, with counters above them.

use std::fmt::Write;

use super::StepTrace;

/// One batching thread of a timeline.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// The thread's name.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<StepTrace>,
    /// Steps that the track lacks, because they were overwritten before they were read.
    pub lost: u64,
}

/// A span of something else that happened meanwhile, in microseconds of the same clock.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The text shown on the span.
    pub name: String,
    /// When it began.
    pub from_us: u64,
    /// When it ended.
    pub to_us: u64,
}

/// The whole JSON document: the tracks, and above them one line with `marks` if there are any. Times are microseconds, as
/// the format requires.
pub fn write_timeline(tracks: &[Track], marks: &[Mark]) -> String {
    let steps: usize = tracks.iter().map(|track| track.steps.len()).sum();
    let lost: u64 = tracks.iter().map(|track| track.lost).sum();
    // A step takes about 640 bytes.
    let mut out = String::with_capacity(1_024 + steps * 700 + marks.len() * 120);
    out += "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n\
            {\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"cllm\"}}";
    // Writing to a `String` can't fail.
    let _ = write_marks(marks, &mut out);
    for (i, track) in tracks.iter().enumerate() {
        let _ = write_track(track, i + 1, &mut out);
    }
    let _ = write!(out, "\n],\"otherData\":{{\"steps\":{steps},\"steps_lost\":{lost}}}}}\n");
    out
}

fn write_marks(marks: &[Mark], out: &mut String) -> std::fmt::Result {
    if !marks.is_empty() {
        name_thread(out, 0, "bench")?;
    }
    for mark in marks {
        span(out, 0, &mark.name, mark.from_us, mark.to_us)?;
        out.push('}');
    }
    Ok(())
}

fn write_track(track: &Track, tid: usize, out: &mut String) -> std::fmt::Result {
    name_thread(out, tid, &track.name)?;
    track.steps.iter().try_for_each(|step| write_step(step, tid, out))
}

fn name_thread(out: &mut String, tid: usize, name: &str) -> std::fmt::Result {
    let name = serde_json::Value::from(name);
    write!(
        out,
        ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{tid},\"name\":\"thread_name\",\"args\":{{\"name\":{name}}}}},\n\
         {{\"ph\":\"M\",\"pid\":1,\"tid\":{tid},\"name\":\"thread_sort_index\",\"args\":{{\"sort_index\":{tid}}}}}"
    )
}

fn write_step(step: &StepTrace, tid: usize, out: &mut String) -> std::fmt::Result {
    let StepTrace { begun_us, admitted_us, planned_us, decoded_us, ended_us, .. } = *step;
    let StepTrace { rows, tokens, waiting, running, guesses, .. } = *step;
    // Rows are sampled and answered one after the other. The timeline shows all sampling as one span and all answering as
    // another.
    let sampled_us = decoded_us.saturating_add(step.sample_us).min(ended_us);
    span(out, tid, "step", begun_us, ended_us)?;
    write!(out, ",\"args\":{{\"rows\":{rows},\"guesses\":{guesses},\"tokens\":{tokens}}}}}")?;
    let parts = [
        ("admit", begun_us, admitted_us),
        ("plan", admitted_us, planned_us),
        ("decode", planned_us, decoded_us),
        ("sample", decoded_us, sampled_us),
        ("reply", sampled_us, ended_us),
    ];
    // A span of 0 us would be shown inside the span that begins there, which may be the next step's.
    for (name, from_us, to_us) in parts.into_iter().filter(|(_, from_us, to_us)| from_us < to_us) {
        span(out, tid, name, from_us, to_us)?;
        out.push('}');
    }
    let counters = [
        // A stacked chart: rows that are no guesses, and above them the guesses.
        ("rows", format!("\"rows\":{},\"guesses\":{guesses}", rows.saturating_sub(guesses))),
        ("tokens", format!("\"tokens\":{tokens}")),
        ("requests", format!("\"waiting\":{waiting},\"running\":{running}")),
    ];
    counters.into_iter().try_for_each(|(name, values)| {
        // The format has one set of counters for each process. Counters of further tracks have the track's number in their
        // name.
        let of = if tid > 1 { format!(" {tid}") } else { String::new() };
        write!(out, ",\n{{\"ph\":\"C\",\"pid\":1,\"name\":\"{name}{of}\",\"ts\":{begun_us},\"args\":{{{values}}}}}")
    })
}

/// Writes a span without its closing brace, so that the caller can add fields.
fn span(out: &mut String, tid: usize, name: &str, from_us: u64, to_us: u64) -> std::fmt::Result {
    let (name, dur) = (serde_json::Value::from(name), to_us.saturating_sub(from_us));
    write!(out, ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{tid},\"name\":{name},\"ts\":{from_us},\"dur\":{dur}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn track(lost: u64) -> Track {
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
            guesses: 2,
        };
        Track { name: "batch".to_owned(), steps: vec![step], lost }
    }

    #[test]
    fn the_parts_of_a_step_follow_each_other_and_fill_it() {
        let document: Value = serde_json::from_str(&write_timeline(&[track(7)], &[])).unwrap();
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
            serde_json::json!({"rows": 1, "guesses": 2}),
            serde_json::json!({"tokens": 2}),
            serde_json::json!({"waiting": 4, "running": 1}),
        ];
        assert!(counters.into_iter().eq(wanted.iter()));
        assert_eq!(document["otherData"], serde_json::json!({"steps": 1, "steps_lost": 7}));
    }

    /// Perfetto drew `admit` inside `decode`, and the end of a step inside the next step.
    #[test]
    fn a_part_that_took_no_time_has_no_span() {
        let mut track = track(0);
        (track.steps[0].admitted_us, track.steps[0].sample_us) = (10, 10);
        let document: Value = serde_json::from_str(&write_timeline(&[track], &[])).unwrap();
        let events = document["traceEvents"].as_array().unwrap();
        let spans: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").map(|event| &event["name"]).collect();
        assert_eq!(spans, ["step", "plan", "decode", "sample"]);
    }

    #[test]
    fn each_track_is_a_thread_and_marks_are_one_more() {
        let marks = [Mark { name: "stage \"8\"".to_owned(), from_us: 5, to_us: 9 }];
        let other = Track { name: "stage 3".to_owned(), ..track(1) };
        let document: Value = serde_json::from_str(&write_timeline(&[track(2), other], &marks)).unwrap();
        let events = document["traceEvents"].as_array().unwrap();
        let threads: Vec<(&Value, &Value)> = events
            .iter()
            .filter(|event| event["name"] == "thread_name")
            .map(|event| (&event["tid"], &event["args"]["name"]))
            .collect();
        let wanted =
            [(0, "bench"), (1, "batch"), (2, "stage 3")].map(|(tid, name)| (Value::from(tid), Value::from(name)));
        assert!(threads.into_iter().eq(wanted.iter().map(|(tid, name)| (tid, name))));
        assert!(events.iter().any(|event| event["name"] == "stage \"8\"" && event["dur"] == 4 && event["tid"] == 0));
        let of = |tid: u64| events.iter().filter(|event| event["ph"] == "X" && event["tid"] == tid).count();
        assert_eq!((of(1), of(2)), (6, 6));
        assert!(events.iter().any(|event| event["ph"] == "C" && event["name"] == "rows 2"));
        assert_eq!(document["otherData"], serde_json::json!({"steps": 2, "steps_lost": 3}));
    }
}
