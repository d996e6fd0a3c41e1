//! The keeper: one thread for each server that checks deadlines. It closes overdue connections, retries failed accepts, and
//! handles sockets while every worker is busy, so that a leaving client is noticed even then. Ticks rarely while there is
//! no connection. Never runs a handler.

use crate::conn::Phase;
use crate::hub::Hub;
use crate::intake::Stage;
use crate::limits::{KEEPER_IDLE_TICK, KEEPER_TICK};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// Most events handled in one tick when no worker waits.
const EVENTS_MAX: usize = 4096;

/// The keeper's loop. Ends when its server and the last connection are gone.
pub(crate) fn run(hub: &Arc<Hub>) {
    loop {
        for conn in hub.table.overdue(hub.now_ms()) {
            hub.on_deadline(&conn);
        }
        if hub.is_accept_stalled.load(Ordering::Acquire) {
            hub.accept_waiting();
        }
        if !hub.is_attended() {
            hub.attend(EVENTS_MAX);
        }
        if hub.is_draining.load(Ordering::Acquire) {
            close_idle(hub);
        }
        let is_abandoned = hub.is_abandoned.load(Ordering::Acquire);
        if is_abandoned {
            hub.clear_queue();
        }
        if !hub.table.is_empty() || hub.is_accept_stalled.load(Ordering::Acquire) {
            thread::park_timeout(KEEPER_TICK);
        } else if is_abandoned {
            return;
        } else {
            hub.is_keeper_asleep.store(true, Ordering::SeqCst);
            if hub.table.is_empty() {
                thread::park_timeout(KEEPER_IDLE_TICK);
            }
            hub.is_keeper_asleep.store(false, Ordering::SeqCst);
        }
    }
}

/// Closes connections that wait for a next request. If the server is gone, also connections that are receiving one, because
/// it would not be answered.
fn close_idle(hub: &Arc<Hub>) {
    let is_abandoned = hub.is_abandoned.load(Ordering::Acquire);
    for conn in hub.table.all() {
        if !conn.claim() {
            continue;
        }
        let mut inner = conn.inner();
        let is_idle = matches!(inner.phase, Phase::Receiving) && (is_abandoned || inner.intake.stage() == Stage::Idle);
        if is_idle {
            hub.close(&conn, &mut inner);
        }
        drop(inner);
        if let Some(request) = hub.advance(&conn) {
            hub.push_request(request);
        }
    }
}
