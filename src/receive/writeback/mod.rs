//! Writes received events to the CRM's database: from the queue in the state, in the order of each lead, each effectively once.
//!
//! The CRM's database records which events it has (by the keys of our tables, or by a marker in the same transaction as the
//! operator's own statement). So an event whose queue row outlives its writing is not written twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::{error, info, warn};

use crate::clock;
use crate::config::{self, ServiceSettings, WritebackMode};
use crate::db::discreet;
use crate::error::SetupError;
use crate::pulse::DaemonLoop;
use crate::receive::signals::ReceiveLoop;
use crate::rules::heard_event::WaitingEvent;
use crate::rules::retry;
use crate::source::writeback::ddl::WritebackDesign;
use crate::source::writeback::failure::WriteFailure;
use crate::source::writeback::statements::EventStatements;
use crate::source::writeback::writer::CrmWriter;
use crate::store::state_db::StateDb;
use crate::store::state_failure::state_cure;
use crate::store::writeback::{self as queue, FailedEvent};

/// An event that the CRM rejected this many times waits for the operator.
const TRIES: i64 = 5;
/// Pause between two checks without a signal: another instance may have filled the queue.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The longest pause while the CRM's database is away or does not fit.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The result of one step.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WritebackStep {
    pub written: usize,
    pub failed: usize,
    /// When the next event that waits for a retry is due.
    pub next_due_at: Option<DateTime<Utc>>,
}

/// A failure that delays all events.
#[derive(Debug, thiserror::Error)]
pub enum WritebackError {
    #[error("the state cannot be read or written: {0}")]
    State(#[from] sqlx::Error),
    #[error(transparent)]
    Crm(#[from] WriteFailure),
}

impl WritebackError {
    fn cure(&self) -> &'static str {
        match self {
            WritebackError::State(error) => state_cure(error),
            WritebackError::Crm(failure) => failure.cure(),
        }
    }

    /// Without personal data.
    fn in_words(self) -> String {
        match self {
            WritebackError::State(error) => discreet::in_words(&anyhow::Error::from(error)),
            WritebackError::Crm(failure) => failure.to_string(),
        }
    }
}

/// Checks the settings without the database.
///
/// # Errors
/// [`SetupError`] for a statement that cannot be parsed.
pub fn check(settings: &ServiceSettings) -> Result<(), SetupError> {
    match settings.writeback.mode {
        WritebackMode::Sql => {
            EventStatements::read(&settings.writeback, WritebackDesign::of(settings).engine).map(drop)
        }
        WritebackMode::Tables | WritebackMode::Off => Ok(()),
    }
}

/// Writes due events, some hundreds at most; `None` while another instance does so, or has taken over. Events that both have
/// written exist once: the CRM's database records which ones it has.
pub async fn step(
    state: &StateDb,
    writer: &mut CrmWriter,
    retry: &config::RetrySettings,
    now: DateTime<Utc>,
) -> Result<Option<WritebackStep>, WritebackError> {
    let mut turn = writer.take_turn();
    let stepped = match turn.try_take(state).await {
        Ok(true) => {
            let stepped = tokio::select! {
                stepped = step_in_turn(state, writer, retry, now) => stepped.map(Some),
                () = turn.hold(state) => Ok(None),
            };
            turn.give_back(state).await;
            stepped
        }
        Ok(false) => Ok(None),
        Err(error) => Err(error.into()),
    };
    writer.keep_turn(turn);
    stepped
}

async fn step_in_turn(
    state: &StateDb,
    writer: &mut CrmWriter,
    retry: &config::RetrySettings,
    now: DateTime<Utc>,
) -> Result<WritebackStep, WritebackError> {
    let waiting = queue::due(state, retry.max_interval, now).await?;
    let mut stepped = WritebackStep::default();
    if !waiting.is_empty() {
        let written = writer.write(&waiting, now).await?;
        let failed = judged(&waiting, written.failed, retry, now);
        queue::failed(state, &failed, now).await?;
        queue::done(state, &written.done).await?;
        (stepped.written, stepped.failed) = (written.done.len(), failed.len());
    }
    stepped.next_due_at = queue::next_due(state, now).await?;
    Ok(stepped)
}

/// Logs rejected events and plans their retries.
fn judged(
    waiting: &[WaitingEvent],
    failed: Vec<(i64, String)>,
    retry: &config::RetrySettings,
    now: DateTime<Utc>,
) -> Vec<FailedEvent> {
    let events: HashMap<i64, &WaitingEvent> = waiting.iter().map(|event| (event.seq, event)).collect();
    let judge = |(seq, detail): (i64, String)| {
        let event = events.get(&seq)?;
        let (attempts, id, kind) = (event.attempts + 1, &event.lead.id, event.kind.name());
        let due_at = (attempts < TRIES).then(|| now + retry::delay(retry, attempts));
        if due_at.is_some() {
            warn!(event = seq, id, kind, attempts, error = detail, "the CRM refuses events from Conversica; retrying");
        } else {
            let cure = "look at `conversica-sync writeback stopped`, fix it, then `conversica-sync writeback retry`";
            error!(
                event = seq,
                id,
                kind,
                attempts,
                error = detail,
                cure,
                "the CRM refuses what Conversica sent; given up"
            );
        }
        Some(FailedEvent { seq, due_at, detail })
    };
    failed.into_iter().filter_map(judge).collect()
}

/// Runs until `stop`.
pub async fn run(settings: Arc<ServiceSettings>, state: StateDb, ReceiveLoop { signals, pulse, stop }: ReceiveLoop) {
    let mut writer = match CrmWriter::new(&settings) {
        Ok(Some(writer)) => writer,
        Ok(None) => return stop.cancelled().await,
        Err(error) => {
            error!(error = error.what, cure = error.cure, "no event from Conversica can be written to the CRM");
            return stop.cancelled().await;
        }
    };
    let progress = writer.progress();
    let retry = &settings.delivery.retry;
    let patience = config::RetrySettings { max_interval: retry.max_interval.min(LONGEST_PAUSE), ..retry.clone() };
    let (mut troubles, mut said) = (0, String::new());
    loop {
        let now = clock::now();
        // An interrupted step leaves events that the CRM may have already: its database recognises them.
        let stepped = tokio::select! {
            stepped = step(&state, &mut writer, retry, now) => stepped,
            () = stop.cancelled() => break,
            never = pulse.follow(DaemonLoop::Writeback, || progress.load(Ordering::Relaxed)) => match never {},
        };
        let mut in_trouble = false;
        let pause = match stepped {
            // The other instance's result says nothing about ours.
            Ok(None) => LOOK_INTERVAL,
            Ok(Some(stepped)) => {
                if std::mem::take(&mut troubles) > 0 {
                    said.clear();
                    info!("writing to the CRM works again");
                }
                pause(&stepped, now)
            }
            Err(trouble) => {
                in_trouble = true;
                troubles += 1;
                let cure = trouble.cure();
                let words = trouble.in_words();
                if words != said {
                    warn!(error = words, cure, "events from Conversica cannot be written to the CRM; they wait");
                    said = words;
                }
                retry::delay(&patience, troubles).max(Duration::from_millis(10))
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = signals.writeback.notified(), if !in_trouble => {}
            () = stop.cancelled() => break,
            never = pulse.rest(DaemonLoop::Writeback) => match never {},
        }
    }
    writer.close().await;
}

fn pause(stepped: &WritebackStep, now: DateTime<Utc>) -> Duration {
    if stepped.written > 0 {
        return Duration::ZERO;
    }
    let due = stepped.next_due_at.map(|due| (due - now).to_std().unwrap_or_default());
    due.map_or(LOOK_INTERVAL, |due| due.min(LOOK_INTERVAL))
}
