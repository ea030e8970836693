//! `[source]`: a table or a query, and the tables that are watched beside it.

use crate::config::validate::report::ValidationReport;
use crate::config::{ChangeDetection, SourceSettings};

pub fn check(source: &SourceSettings, report: &mut ValidationReport<'_>) {
    match (&source.table, &source.query) {
        (Some(_), Some(_)) => report.problem(
            "source.query",
            "both `source.table` and `source.query` are set",
            "Remove one of them; a query may do everything that a table may.",
        ),
        (None, None) if !report.is_spoiled("source.query") => report.problem(
            "source.table",
            "neither `source.table` nor `source.query` is set",
            "Add under [source]: table = \"leads\"",
        ),
        (None, _) if source.changes == ChangeDetection::Triggers && source.watch.is_empty() => report.problem(
            "source.changes",
            "`source.changes` is `triggers`, which needs a table, but `source.query` is set and there is no [[source.watch]]",
            "Add a [[source.watch]] for each table that the query reads (`check` names them), set `table`, or write changes = \"poll\".",
        ),
        _ => {}
    }
    if source.filter.is_some() && source.query.is_some() && source.table.is_none() {
        report.problem(
            "source.where",
            "`source.where` is set together with `source.query`",
            "Write the condition into the query, and remove `where`.",
        );
    }
    if source.change_log.is_some() && source.table.is_none() && source.watch.is_empty() {
        report.problem(
            "source.change_log",
            "`source.change_log` is set, but there is no `source.table` to put triggers on",
            "Set `table`, add a [[source.watch]], or remove `change_log`.",
        );
    }
    watched(source, report);
    report.duration("source.poll_interval", source.poll_interval, "100ms", "30d");
    report.duration("source.full_compare_interval", source.full_compare_interval, "100ms", "365d");
    report.duration("source.statement_timeout", source.statement_timeout, "1s", "24h");
}

fn watched(source: &SourceSettings, report: &mut ValidationReport<'_>) {
    for (n, watch) in source.watch.iter().enumerate() {
        let table = format!("source.watch.{n}.table");
        if source.unwatched.iter().any(|name| name.eq_ignore_ascii_case(&watch.table)) {
            report.problem(
                &table,
                format!("`{table}` is `{}`, which `source.unwatched` names too", watch.table),
                "Remove it from one of the two.",
            );
        }
    }
    if !source.watch.is_empty() && source.changes == ChangeDetection::Poll {
        report.warning(
            "source.watch.0.table",
            "[[source.watch]] has no effect unless `source.changes` is `triggers` and `conversica-sync triggers install` has run",
        );
    }
}
