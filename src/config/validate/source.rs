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
            format!(
                "Add a [[source.watch]] for each table that the query reads{}, set `table`, or write changes = \"poll\".",
                source.query.as_deref().map(tables_in_words).unwrap_or_default()
            ),
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
    row_url(source, report);
    watched(source, report);
    report.duration("source.poll_interval", source.poll_interval, "100ms", "30d");
    report.duration("source.full_compare_interval", source.full_compare_interval, "100ms", "365d");
    report.duration("source.statement_timeout", source.statement_timeout, "1s", "24h");
}

/// A link runs in the operator's browser: it leads to a page, and to nothing else.
fn row_url(source: &SourceSettings, report: &mut ValidationReport<'_>) {
    let Some(address) = &source.row_url else { return };
    let is_page = url::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_page || !address.contains("{id}") {
        report.problem(
            "source.row_url",
            "`source.row_url` is no address of a web page with `{id}` in it",
            "Write the address of a lead in the CRM, with {id} in place of its id: row_url = \"https://crm.example.com/leads/{id}\"",
        );
    }
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
        let earlier = source.watch[..n].iter().position(|earlier| earlier.table.eq_ignore_ascii_case(&watch.table));
        if let Some(earlier) = earlier.filter(|_| !watch.table.trim().is_empty()) {
            report.problem(
                &table,
                format!("`{table}` is `{}`, which `source.watch.{earlier}.table` names too", watch.table),
                "Keep one [[source.watch]] for the table, whose `leads` returns the keys of both: SELECT … UNION SELECT …",
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

/// " (it names contacts, users)", or nothing.
fn tables_in_words(query: &str) -> String {
    let names = tables_named(query);
    if names.is_empty() { String::new() } else { format!(" (it names {})", names.join(", ")) }
}

/// The names behind FROM and JOIN, without those that the query itself defines. No parser: a hint for the operator.
fn tables_named(query: &str) -> Vec<String> {
    let lines = query.lines().map(|line| line.split("--").next().unwrap_or_default());
    let spaced = lines.collect::<Vec<_>>().join(" ").replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let is = |word: Option<&&str>, keyword: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(keyword));
    let is_defined =
        |name: &str| words.windows(3).any(|at| at[0].eq_ignore_ascii_case(name) && is(at.get(1), "as") && at[2] == "(");
    let mut names: Vec<String> = Vec::new();
    for at in words.windows(2) {
        let is_place = is(at.first(), "from") || is(at.first(), "join");
        let is_name =
            at[1].chars().next().is_some_and(|first| first.is_alphabetic() || matches!(first, '_' | '"' | '`'));
        let name = at[1].trim_end_matches(';');
        if is_place
            && is_name
            && !is(at.get(1), "lateral")
            && !is_defined(name)
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_query_are_named() {
        let query = "WITH latest AS (SELECT max(id) FROM visits) -- from nothing\nSELECT o.id FROM opportunities o\n\
             join \"Contacts\" c on c.id = o.contact_id left join crm.users u using (id), latest WHERE x IN (select id from visits) \
             and exists (select 1 from latest)";
        assert_eq!(tables_named(query), ["visits", "opportunities", "\"Contacts\"", "crm.users"]);
        assert_eq!(tables_in_words("select 1"), "");
        assert_eq!(tables_in_words("select id from leads;"), " (it names leads)");
    }
}
