//! The leads of the list as a file for spreadsheets, page by page, however many there are.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::frame::{QueryParameters, away};
use super::list_view::ListView;
use super::status_words::status_words;
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::PeopleVisitor;
use crate::console::spreadsheet_cell;
use crate::conversica::token::TokenVeil;
use crate::store::lead_table::{self, PageStart, SeenLead, TableCounts};
use crate::store::state_db::StateDb;
use crate::story::entry::reason;

/// Leads that are read at once.
const PART: i64 = 1000;
/// Leads with a reason are counted up to this many.
const COUNTED: i64 = 100_000;
const COLUMNS: [&str; 13] = [
    "id",
    "client_id",
    "name",
    "email",
    "telephone",
    "rep",
    "conversation",
    "source",
    "status",
    "status_in_words",
    "reason",
    "since",
    "changed_at",
];

/// The part of the list that is still to be written.
struct ExportRest {
    board: Arc<DashboardContext>,
    view: ListView,
    counts: TableCounts,
}

pub async fn export(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let mut view = ListView::read(&asked);
    view.start = PageStart::First;
    let Some(report) = board.desk.window.report().await else { return away(&board, &visitor) };
    let mut counts = view.counts(&report);
    counts.wanted = counts.of_scope;
    if view.filter.reason.is_some() {
        let count = async |db: &StateDb| Ok(lead_table::count(db, &view.filter, counts, COUNTED).await?);
        let Some(wanted) = board.desk.window.read(count).await else { return away(&board, &visitor) };
        counts.wanted = wanted;
    }
    let head = csv_text([COLUMNS.map(str::to_owned)]);
    let rest = ExportRest { board, view, counts };
    let parts = stream::unfold((Some(head), Some(rest)), |(head, rest)| async {
        if let Some(head) = head {
            return Some((Ok(head), (None, rest)));
        }
        match rest?.next_part().await {
            Ok((text, _)) if text.is_empty() => None,
            Ok((text, rest)) => Some((Ok(text), (None, rest))),
            // The browser sees that the file is not whole.
            Err(error) => Some((Err(error), (None, None))),
        }
    });
    let headers =
        [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=\"leads.csv\"")];
    (headers, Body::from_stream(parts)).into_response()
}

impl ExportRest {
    /// The next leads, and what is left behind them.
    async fn next_part(mut self) -> Result<(Bytes, Option<Self>), std::io::Error> {
        let Self { board, view, counts } = &self;
        let order = (view.order, &view.start);
        let read =
            board.desk.window.read(async |db| Ok(lead_table::page(db, &view.filter, order, *counts, PART).await?));
        let page = read.await.ok_or_else(|| std::io::Error::other("the state did not answer"))?;
        let veil = board.veil();
        let text = csv_text(page.leads.iter().map(|lead| line(lead, &veil)));
        let last = page.leads.last().filter(|_| page.has_later).map(SeenLead::place);
        let rest = last.map(|last| {
            self.view.start = PageStart::After(last);
            self
        });
        Ok((text, rest))
    }
}

fn line(lead: &SeenLead, veil: &TokenVeil) -> [String; 13] {
    let SeenLead { listed, person } = lead;
    let shown = |text: &str| veil.text(text).into_owned();
    [
        listed.lead.id.clone(),
        listed.lead.client_id.clone(),
        shown(&person.name),
        shown(&person.email),
        shown(&person.phones.join(", ")),
        shown(&person.rep),
        shown(&person.conversation),
        shown(&person.source),
        listed.status.name().to_owned(),
        status_words(listed.status).to_owned(),
        shown(&reason(listed)),
        listed.since.format("%FT%TZ").to_string(),
        listed.changed_at.format("%FT%TZ").to_string(),
    ]
}

fn csv_text(lines: impl IntoIterator<Item = [String; 13]>) -> Bytes {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        let cells = line.each_ref().map(|cell| spreadsheet_cell(cell));
        // Memory takes every line.
        let _ = writer.write_record(cells.each_ref().map(|cell| cell.as_bytes()));
    }
    writer.into_inner().map(Bytes::from).unwrap_or_default()
}
