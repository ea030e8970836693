//! With `mode = "sql"`: runs the operator's statements for each event, in a savepoint of its own, with its marker in the same
//! transaction.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::rules::heard_event::WaitingEvent;
use crate::source::writeback::failure::{FailureReach, WriteFailure};
use crate::source::writeback::session::WriterConnection;
use crate::source::writeback::statements::{self, ReadyStatements};
use crate::source::writeback::tables::format_instant;
use crate::source::writeback::writer::{CrmWriter, WrittenEvents};

/// How a transaction over several events ended.
enum RunEnd {
    Committed(WrittenEvents),
    /// A trigger of the CRM rolled back the whole transaction: nothing is written.
    RolledBack(WrittenEvents),
}

fn writing(error: sqlx::Error) -> WriteFailure {
    WriteFailure::of("writing", error)
}

impl CrmWriter {
    pub(super) async fn run_statements(
        &self,
        ready: &ReadyStatements,
        events: &[WaitingEvent],
        now: DateTime<Utc>,
    ) -> Result<WrittenEvents, WriteFailure> {
        let mut connection = WriterConnection::acquire(&self.db).await.map_err(writing)?;
        let end = self.run_events(&mut connection, ready, events, now).await;
        let written = match end {
            Ok(RunEnd::Committed(written)) => written,
            Ok(RunEnd::RolledBack(written)) => {
                connection.close().await;
                written
            }
            Err(failure) => {
                connection.close().await;
                return Err(failure);
            }
        };
        if written.untouched > 0 {
            tracing::debug!(events = written.untouched, "statements of [writeback] touched no row");
        }
        Ok(written)
    }

    async fn run_events(
        &self,
        connection: &mut WriterConnection,
        ready: &ReadyStatements,
        events: &[WaitingEvent],
        now: DateTime<Utc>,
    ) -> Result<RunEnd, WriteFailure> {
        let mut written = WrittenEvents::default();
        let mut transaction = connection.begin(&self.db).await.map_err(writing)?;
        let marks = json!(events.iter().map(|event| marker(event, now)).collect::<Vec<_>>()).to_string();
        let fresh = transaction.insert_marks(&self.design, marks).await.map_err(writing)?;
        let fresh: HashSet<String> = fresh.into_iter().collect();
        let mut blocked: HashSet<&str> = HashSet::new();
        let mut refused: Vec<&str> = Vec::new();
        for event in events {
            self.progress.fetch_add(1, Ordering::Relaxed);
            if !fresh.contains(&event.key) {
                written.done.push(event.seq);
                continue;
            }
            if blocked.contains(event.lane.as_str()) {
                refused.push(&event.key);
                continue;
            }
            let statements = &ready[event.kind as usize];
            let values = if statements.is_empty() { None } else { statements::values(event) };
            let Some(values) = values else {
                written.done.push(event.seq);
                continue;
            };
            let mut savepoint = transaction.begin_savepoint().await.map_err(writing)?;
            let mut touched = Ok(0);
            for statement in statements {
                match savepoint.run(statement, &values).await {
                    Ok(rows) => touched = touched.map(|earlier| earlier + rows),
                    Err(error) => {
                        touched = Err(WriteFailure::of(format!("running [writeback] {}", event.kind.name()), error));
                        break;
                    }
                }
            }
            match touched {
                Ok(rows) => {
                    savepoint.commit().await.map_err(writing)?;
                    written.untouched += usize::from(rows == 0);
                    written.done.push(event.seq);
                }
                Err(failure) if failure.reach != FailureReach::Event => return Err(failure),
                Err(failure) => {
                    let failed = (event.seq, failure.to_string());
                    if savepoint.rollback().await.is_err() {
                        return Ok(RunEnd::RolledBack(WrittenEvents {
                            failed: vec![failed],
                            ..WrittenEvents::default()
                        }));
                    }
                    written.failed.push(failed);
                    blocked.insert(&event.lane);
                    refused.push(&event.key);
                }
            }
        }
        if !refused.is_empty() {
            transaction.execute_with(self.design.unmark(), json!(refused).to_string()).await.map_err(writing)?;
        }
        transaction.commit().await.map_err(writing)?;
        Ok(RunEnd::Committed(written))
    }
}

fn marker(event: &WaitingEvent, now: DateTime<Utc>) -> Value {
    json!({"event_key": event.key, "written_at": format_instant(now)})
}
