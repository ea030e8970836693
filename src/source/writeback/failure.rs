//! Decides how far a failure of the CRM's database reaches: to all events, while the database is unreachable or does not fit the
//! settings, or to the lead whose event it refuses.

use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::db::{self, discreet, failure_cure};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReach {
    /// It is unreachable, locked or full: a retry succeeds later.
    Away,
    /// A table or a right is missing, or a statement does not fit: no event causes it.
    Unfit,
    /// It refuses the content of this event.
    Event,
}

/// A failure, without personal data.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {}", in_one_line(error))]
pub struct WriteFailure {
    pub reach: FailureReach,
    /// The step that failed.
    pub doing: String,
    /// Without personal data.
    pub error: sqlx::Error,
}

impl WriteFailure {
    /// Needs the driver's own error: the version without personal data has less detail.
    pub fn of(doing: impl Into<String>, error: sqlx::Error) -> Self {
        let mut doing = doing.into();
        if let Some(constraint) = discreet::constraint_of(&error) {
            doing.push_str(&format!(" ({constraint})"));
        }
        Self { reach: reach(&error), doing, error: discreet::of_writeback(error) }
    }

    /// For a step that involves no event.
    pub fn unfit(doing: impl Into<String>, error: sqlx::Error) -> Self {
        // MySQL's own code is an SQLSTATE, which is the same for a full disk and for a mistyped table.
        let error = discreet::of_writeback(error);
        let reach = if db::is_outage(&error) { FailureReach::Away } else { FailureReach::Unfit };
        Self { reach, doing: doing.into(), error }
    }

    /// For a table that we do not create, because a subscriber without it would stop.
    pub fn published(table: &str, publications: &str) -> Self {
        let doing = format!("creating the table {table}");
        let error = format!("{publications} would publish it, and it has to be on every subscriber first");
        Self { reach: FailureReach::Unfit, doing, error: sqlx::Error::Configuration(error.into()) }
    }

    /// The operator's remedy.
    pub fn cure(&self) -> &'static str {
        match self.reach {
            FailureReach::Away => {
                "nothing, if the CRM's database is being restarted or locked for a while; else check that the database of \
                 [writeback] url (or [source] url) runs, has room, and can be reached"
            }
            FailureReach::Unfit => {
                "let whoever owns the CRM's database run what `conversica-sync writeback print` shows, for a role that may write \
                 (set it as [writeback] url), or fix the statements; `conversica-sync check` looks at all of it, and nothing is \
                 lost meanwhile"
            }
            FailureReach::Event => "fix what the database refuses, then run `conversica-sync writeback retry`",
        }
    }
}

/// As a part of a sentence, without the driver's additions.
fn in_one_line(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Configuration(said) => said.to_string(),
        other => other.to_string(),
    }
}

/// Cancelled after `statement_timeout`. The statement is slow; the database is reachable.
const CANCELLED: &str = "57014";

/// By the number of MySQL's error.
fn mysql_reach(number: u16) -> FailureReach {
    match number {
        // Cut off after `statement_timeout`: the statement is slow; the database is reachable.
        1317 | 1969 | 3024 => FailureReach::Event,
        1044 | 1045 | 1046 | 1049 | 1051 | 1054 | 1064 | 1109 | 1136 | 1142 | 1143 | 1146 | 1227 | 1305 | 1370 => {
            FailureReach::Unfit
        }
        number if failure_cure::is_passing(number) => FailureReach::Away,
        _ => FailureReach::Event,
    }
}

fn reach(error: &sqlx::Error) -> FailureReach {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => FailureReach::Event,
            error if db::is_outage(error) => FailureReach::Away,
            _ => FailureReach::Unfit,
        };
    };
    let code = database.code().unwrap_or_default();
    if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() {
        // With a context, the CRM's own function or trigger raised it, as a rule because of the event's values.
        let own = postgres.r#where().is_none();
        return match code.get(..2) {
            _ if code == CANCELLED => FailureReach::Event,
            _ if db::is_outage(error) => FailureReach::Away,
            Some("42" | "3F" | "3D" | "28" | "25" | "0A") if own => FailureReach::Unfit,
            _ => FailureReach::Event,
        };
    }
    if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql_reach(mysql.number());
    }
    if db::is_outage(error) {
        return FailureReach::Away;
    }
    // SQLite, primary codes: 8 read-only, 11 corrupt, 23 not allowed, 26 no database; 1 is every error without a code of its own.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(8 | 11 | 23 | 26) => FailureReach::Unfit,
        Ok(1) if ["no such ", "table ", "near "].iter().any(|text| database.message().starts_with(text)) => {
            FailureReach::Unfit
        }
        _ => FailureReach::Event,
    }
}
