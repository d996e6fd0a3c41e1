//! Streams with answers that follow a schema. As in a server, each stream has a thread that follows the grammar and sends
//! masks and paths when they are ready.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::workload::{BenchText, TextKind};
use super::{Bench, Parts, SpeculationRun, guesses_since};
use crate::constrain::GuidedReader;
use crate::engine::RoundOutcome;
use crate::handoff::{ReplyState, Submission, Wake};
use crate::topology::pin;
use crate::types::limits::CONSTRAINED_LOOK_MS;
use crate::types::seams::Clock;
use crate::types::{GenerateParams, RequestId};

impl Bench {
    /// Generates the answers of `texts`. Each ends where its schema ends.
    pub(super) fn run_constrained(
        &mut self,
        texts: Vec<BenchText>,
        speculates: bool,
        stop: &AtomicBool,
    ) -> Result<SpeculationRun, String> {
        self.engine.speculate(speculates);
        self.scripts.borrow_mut().clear();
        let expected: usize = texts.iter().flat_map(|text| &text.answer).map(Vec::len).sum();
        for BenchText { prompt, answer, .. } in &texts {
            let whole = prompt.iter().chain(answer.iter().flatten()).copied().collect();
            self.scripts.borrow_mut().insert(prompt[0], whole);
        }
        let tokens: Vec<AtomicUsize> = texts.iter().map(|_| AtomicUsize::new(0)).collect();
        let (submitted, is_over) = (Barrier::new(texts.len() + 1), AtomicBool::new(false));
        let streams = Streams { parts: &self.parts, speculates, submitted: &submitted, is_over: &is_over };
        let (engine, mut begun) = (&mut self.engine, None);
        let ended = std::thread::scope(|scope| {
            let threads: Vec<_> = texts
                .into_iter()
                .zip(&tokens)
                .enumerate()
                .map(|(i, (text, count))| scope.spawn(move || streams.follow(i, text, count)))
                .collect();
            submitted.wait();
            let all = || tokens.iter().map(|count| count.load(Ordering::Relaxed));
            while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                if engine.step_or_sleep(Duration::from_millis(CONSTRAINED_LOOK_MS)) == RoundOutcome::Broken
                    || stop.load(Ordering::Relaxed)
                {
                    is_over.store(true, Ordering::Relaxed);
                }
                if begun.is_none() && all().all(|tokens| tokens > 0) {
                    begun = Some((Instant::now(), all().sum::<usize>(), *engine.stats()));
                }
            }
            let ended = Instant::now();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or(Err("it panicked".to_owned())));
            joined.collect::<Result<Vec<()>, String>>().map(|_| ended)
        })?;
        let all: usize = tokens.into_iter().map(AtomicUsize::into_inner).sum();
        let (since, before, stats) = begun.ok_or("no token was generated")?;
        if all != expected {
            return Err(format!("{all} tokens instead of {expected}"));
        }
        Ok(SpeculationRun {
            rate: (all - before) as f64 / (ended - since).as_secs_f64(),
            steps: self.engine.stats().steps - stats.steps,
            tokens: (all - before) as u64,
            guesses: guesses_since(&stats, self.engine.stats()),
        })
    }
}

/// State that the threads of one run share.
#[derive(Clone, Copy)]
struct Streams<'a> {
    parts: &'a Parts,
    speculates: bool,
    submitted: &'a Barrier,
    is_over: &'a AtomicBool,
}

impl Streams<'_> {
    /// Submits one request and reads its answer to the end.
    fn follow(self, i: usize, text: BenchText, count: &AtomicUsize) -> Result<(), String> {
        let parts = self.parts;
        let _ = pin(parts.http[i % parts.http.len()]);
        let reader = self.submit(i, text);
        self.submitted.wait();
        let mut reader = reader?;
        let mut pieces = Vec::new();
        loop {
            reader.read_into(&mut pieces);
            count.store(pieces.len(), Ordering::Relaxed);
            if self.is_over.load(Ordering::Relaxed) {
                return Err("stopped".to_owned());
            }
            if let ReplyState::Finished(_) =
                reader.wait(Some(Instant::now() + Duration::from_millis(CONSTRAINED_LOOK_MS)), Wake::EachPiece)
            {
                return Ok(());
            }
        }
    }

    fn submit(self, i: usize, BenchText { prompt, answer, schema }: BenchText) -> Result<GuidedReader, String> {
        let parts = self.parts;
        let constrainer = &parts.constrainers[usize::from(self.speculates)];
        let constraint = constrainer.json_schema(&schema.unwrap_or_default(), "schema");
        let constraint = constraint.map(|constraint| constraint.ignoring_eos(true));
        let guide = constraint.and_then(|constraint| constrainer.guide(Some(constraint), None));
        let (reply, reader) = parts.replies.claim().ok_or("no reply slot")?;
        let reader = GuidedReader::new(reader, guide.map_err(|error| error.to_string())?);
        let max_tokens = answer.map_or(0, |answer| answer.len()) + 1;
        let (sampling, ignore_eos, constrained) = (TextKind::Schema.sampling(i as u64), true, true);
        let params = GenerateParams { sampling, max_tokens, ignore_eos, constrained, ..GenerateParams::default() };
        let (id, arrived_us) = (RequestId(i as u64), parts.clock.now_us());
        let submission = Submission { id, prompt, params, arrived_us, deadline_us: None, reply };
        parts.sender.push(submission).map_err(|_| "the ring is full".to_owned())?;
        Ok(reader)
    }
}
