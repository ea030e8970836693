//! The page of one lead: its status, the content that Conversica has and should have, the messages, and the history.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::attempts::{ShownAttempt, attempts};
use super::frame::{
    PageFrame, QueryParameters, ShownMoment, TextPiece, away, lead_link, lead_name, moment, note, page, pieces, query,
};
use super::list::clients;
use super::row_link::row_link;
use super::verdict::counted;
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::{DashboardVisitor, PeopleVisitor};
use crate::clock;
use crate::console::printable;
use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::lead::LeadId;
use crate::conversica::token::TokenVeil;
use crate::rules::lead_person::LeadPerson;
use crate::rules::lead_status::LeadStatus;
use crate::store::decision::{self, RecordedDecision};
use crate::store::state_db::StateDb;
use crate::store::story::{self, LeadStory};
use crate::story::basis::{ContentHeadings, DeliveredBasis};
use crate::story::hearing::LeadHearing;
use crate::story::{hide_token, history, shown_value, standing};

/// The requested lead: by the path, or, for ids that no path can hold, by the query.
pub struct LeadRequest {
    pub id: String,
    pub client: Option<String>,
}

/// All data about a lead; the Test Lead Token is hidden.
pub struct LeadDetails {
    pub lead: LeadId,
    pub story: Option<LeadStory>,
    pub hearing: LeadHearing,
    pub decided: Vec<RecordedDecision>,
    /// Notes on the row, for a lead that the state knows.
    pub notes: Vec<String>,
    pub veil: TokenVeil,
}

pub enum LeadLookup {
    Told(Box<LeadDetails>),
    /// Several clients have this id.
    Several(Vec<LeadId>),
    Nothing,
}

impl LeadRequest {
    pub fn by_path(path: Result<Path<String>, PathRejection>, asked: Option<String>) -> Option<Self> {
        let Path(id) = path.ok()?;
        let client = QueryParameters::read(asked.unwrap_or_default().as_bytes()).given("client").map(str::to_owned);
        Some(Self { id, client })
    }

    pub fn by_query(asked: Option<String>) -> Self {
        let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
        Self { id: asked.get("id").to_owned(), client: asked.given("client").map(str::to_owned) }
    }

    /// `None` when the state cannot be read.
    pub async fn find(&self, board: &DashboardContext) -> Option<LeadLookup> {
        let mut found = board.desk.window.read(async |db| self.find_in_state(db, board).await).await?;
        if let LeadLookup::Told(told) = &mut found
            && told.story.is_some()
        {
            told.notes = board.row_notes.of_lead(&board.desk.window, &board.settings, &told.lead).await;
        }
        Some(found)
    }

    async fn find_in_state(&self, db: &StateDb, board: &DashboardContext) -> anyhow::Result<LeadLookup> {
        let known = clients(db, &self.id).await?;
        let lead = |client_id: &String| LeadId { id: self.id.clone(), client_id: client_id.clone() };
        let client = match &self.client {
            Some(client) => known.iter().find(|known| *known == client),
            None if known.len() > 1 => return Ok(LeadLookup::Several(known.iter().map(lead).collect())),
            None => known.first(),
        };
        let Some(lead) = client.map(lead) else { return Ok(LeadLookup::Nothing) };
        let hearing = LeadHearing::of(db, &lead, board.settings.consent.keep_opt_outs).await?;
        let mut story = story::of(db, &lead).await?;
        let veil = match &mut story {
            Some(story) => hide_token(story, db, &board.settings, board.veil()).await?,
            None => board.veil(),
        };
        let decided = decision::of_lead(db, &lead.id, &lead.client_id).await?;
        Ok(LeadLookup::Told(Box::new(LeadDetails { lead, story, hearing, decided, notes: Vec::new(), veil })))
    }
}

#[derive(Template)]
#[template(path = "admin/dashboard/lead.html", config = ".askama.toml")]
struct LeadPage {
    frame: PageFrame,
    may_act: bool,
    name: String,
    status: &'static str,
    /// The person, in a few words.
    who: String,
    /// The lead in the CRM's own pages.
    crm: Option<String>,
    stands: String,
    to_do: Vec<TextPiece>,
    attempts: Vec<ShownAttempt>,
    opted_out: Vec<String>,
    possible_opt_outs: Vec<Vec<TextPiece>>,
    actions: Vec<(&'static str, String)>,
    headings: ContentHeadings,
    no_fields: &'static str,
    two_columns: bool,
    uncertain: bool,
    fields: Vec<LeadField>,
    kept: Vec<String>,
    notes: Vec<String>,
    picture: Vec<(String, String)>,
    conversation: Vec<ShownMessage>,
    events: Vec<(ShownMoment, String)>,
}

struct LeadField {
    key: String,
    old: String,
    new: String,
    differs: bool,
}

struct ShownMessage {
    at: ShownMoment,
    by_lead: bool,
    subject: String,
    body: String,
}

pub async fn show(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    path: Result<Path<String>, PathRejection>,
    RawQuery(asked): RawQuery,
) -> Response {
    match LeadRequest::by_path(path, asked) {
        Some(asked) => tell(&board, &visitor, &asked).await,
        None => unknown(&board, &visitor, ""),
    }
}

pub async fn show_asked(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    tell(&board, &visitor, &LeadRequest::by_query(asked)).await
}

async fn tell(board: &DashboardContext, visitor: &DashboardVisitor, asked: &LeadRequest) -> Response {
    match asked.find(board).await {
        None => away(board, visitor),
        Some(LeadLookup::Nothing) => unknown(board, visitor, &asked.id),
        Some(LeadLookup::Several(leads)) => several(board, visitor, &leads),
        Some(LeadLookup::Told(told)) => {
            let frame = PageFrame::of(board, visitor, format!("Lead {}", lead_name(&told.lead)));
            let crm = row_link(&board.settings, &told.lead);
            page(StatusCode::OK, &LeadPage::of(frame, visitor.may_act(), &told, crm, clock::now()))
        }
    }
}

fn unknown(board: &DashboardContext, visitor: &DashboardVisitor, id: &str) -> Response {
    let what = format!("Lead {} is not known to the state.", printable(id));
    let cure = "`conversica-sync plan` shows whether it is in the source, and what would be sent.";
    note(StatusCode::NOT_FOUND, PageFrame::of(board, visitor, "Not found"), &what, cure, Some(("Leads", "/leads")))
}

#[derive(Template)]
#[template(path = "admin/dashboard/several.html", config = ".askama.toml")]
struct LeadChoicePage {
    frame: PageFrame,
    leads: Vec<(String, String)>,
}

fn several(board: &DashboardContext, visitor: &DashboardVisitor, leads: &[LeadId]) -> Response {
    let link = |lead: &LeadId| {
        let name = if lead.client_id.is_empty() { format!("{} (no client)", lead_name(lead)) } else { lead_name(lead) };
        let link = lead_link(lead);
        // A blank client goes into the link too, or the page would ask again.
        (
            name,
            if lead.client_id.is_empty() {
                format!("{link}{}client=", if link.contains('?') { '&' } else { '?' })
            } else {
                link
            },
        )
    };
    let frame = PageFrame::of(board, visitor, "Several clients");
    page(StatusCode::OK, &LeadChoicePage { frame, leads: leads.iter().map(link).collect() })
}

/// The browser wraps the lines.
const WIDTH: usize = 100_000;

impl LeadPage {
    fn of(frame: PageFrame, may_act: bool, told: &LeadDetails, crm: Option<String>, now: DateTime<Utc>) -> Self {
        let LeadDetails { lead, story, hearing, veil, .. } = told;
        let hide = |text: &str| veil.text(text).into_owned();
        let desired = story.as_ref().and_then(|story| story.desired.as_ref());
        let (mut stands, mut to_do) = match story {
            Some(story) => standing(story),
            None => ("Never sent from here; Conversica has spoken of it.".to_owned(), "nothing"),
        };
        let kept = hearing.kept(desired);
        if !kept.is_empty() && story.as_ref().is_some_and(|story| story.status == LeadStatus::InSync) {
            stands = "Conversica holds what it should: what the CRM says, with the opt-out below".to_owned();
        }
        let possible_opt_outs = hearing.possible_opt_outs();
        if !possible_opt_outs.is_empty() && to_do == "nothing" {
            to_do = "look at the damaged posts named below, and decide";
        }
        let certain = hearing.opted_out();
        let opted_out = certain
            .iter()
            .map(|(channel, since)| format!("Opted out of {} on {}.", messages_by(*channel), history::moment(*since)));
        let kept = kept.into_iter().map(|kept| {
            let (key, value, since) = (kept.key, kept.value, history::moment(kept.since));
            let why = if certain.iter().any(|(channel, _)| *channel == kept.channel) {
                format!("they opted out on {since}")
            } else {
                format!("a damaged post of {since} may be an opt-out")
            };
            format!("{key} is sent as {value} whatever the CRM says: {why}.")
        });
        let said = hearing.conversation().into_iter().map(|said| ShownMessage {
            at: moment(said.at, now),
            by_lead: said.by_lead,
            subject: hide(&said.subject),
            body: hide(&said.body),
        });
        let both = story.as_ref().is_some_and(|story| story.desired.is_some() && story.delivered.is_some());
        let fields = story.as_ref().map(fields).unwrap_or_default();
        let two_columns = both && fields.iter().any(|field| field.differs);
        let headings = story.as_ref().map(|story| DeliveredBasis::of(story).headings(story));
        let headings = headings.unwrap_or(ContentHeadings {
            title: "What Conversica should hold",
            held: "",
            desired: "Should hold",
        });
        Self {
            frame,
            may_act,
            name: format!("Lead {}", lead_name(lead)),
            status: story.as_ref().map_or("", |story| story.status.name()),
            who: story.as_ref().map(who).unwrap_or_default(),
            crm,
            attempts: story.as_ref().map(|story| attempts(story, veil, now)).unwrap_or_default(),
            stands: hide(&stands),
            to_do: pieces(to_do),
            opted_out: opted_out.collect(),
            possible_opt_outs: possible_opt_outs.into_iter().map(possible_opt_out).collect(),
            actions: story.as_ref().map(actions).unwrap_or_default(),
            headings,
            no_fields: "The row makes no valid lead, and none was sent before.",
            two_columns,
            uncertain: story.as_ref().is_some_and(|story| story.accepted().is_some() && !story.delivered_is_certain),
            fields,
            kept: kept.collect(),
            notes: told.notes.clone(),
            picture: hearing.picture().map(|(key, value)| (key.to_owned(), hide(&value))).collect(),
            conversation: said.collect(),
            events: events(told, now),
        }
    }
}

/// The Test Lead Token is hidden in the contents of a story.
fn who(story: &LeadStory) -> String {
    let Some(content) = story.desired.as_ref().or(story.delivered.as_ref()) else { return String::new() };
    let LeadPerson { name, email, phones, rep, conversation, source: _, date: _ } =
        LeadPerson::of_lead_object(&Value::from(content.clone()).to_string());
    let rep = if rep.is_empty() { rep } else { format!("rep {rep}") };
    let parts = [name, email, phones.join(", "), rep, conversation];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    printable(&parts.join(" · ")).into_owned()
}

/// The kind of messages on a channel.
fn messages_by(channel: ConsentChannel) -> &'static str {
    match channel {
        ConsentChannel::Email => "e-mails",
        ConsentChannel::Sms => "text messages",
    }
}

fn possible_opt_out((seq, channel): (i64, ConsentChannel)) -> Vec<TextPiece> {
    let channel = messages_by(channel);
    pieces(&format!(
        "The damaged post {seq} may be an opt-out of {channel}, and counts as one until you have looked. To do: `conversica-sync received \
         show {seq}`, then `conversica-sync received confirm {seq}` or `conversica-sync received dismiss {seq}`."
    ))
}

/// Field by field; differing fields are marked.
fn fields(story: &LeadStory) -> Vec<LeadField> {
    let nothing = Map::new();
    let desired = story.desired.as_ref();
    let (new, old) = (desired.unwrap_or(&nothing), story.delivered.as_ref().unwrap_or(&nothing));
    let both = desired.is_some() && story.delivered.is_some();
    let added = new.keys().filter(|key| !old.contains_key(*key));
    let field = |key: &String| {
        let (was, is) = (old.get(key), new.get(key));
        LeadField {
            key: key.clone(),
            old: shown_value(was),
            new: shown_value(if desired.is_some() { is } else { was }),
            differs: both && was != is,
        }
    };
    old.keys().chain(added).map(field).collect()
}

fn actions(story: &LeadStory) -> Vec<(&'static str, String)> {
    let of =
        |deed: &str| format!("/act/{deed}?{}", query(&[("id", &story.lead.id), ("back", &lead_link(&story.lead))]));
    let mut actions = match story.status {
        LeadStatus::Rejected | LeadStatus::Exhausted => vec![("Retry", of("retry"))],
        LeadStatus::Held => vec![("Approve", of("approve")), ("Baseline", of("baseline"))],
        LeadStatus::InSync | LeadStatus::Assumed => vec![("Send again", of("resend"))],
        LeadStatus::Pending
        | LeadStatus::InFlight
        | LeadStatus::Retrying
        | LeadStatus::Invalid
        | LeadStatus::Gone
        | LeadStatus::Suppressed => Vec::new(),
    };
    if story.desired.is_some() || story.delivered.is_some() {
        actions.push(("Never write to this person", of("suppress")));
    }
    actions
}

fn events(told: &LeadDetails, now: DateTime<Utc>) -> Vec<(ShownMoment, String)> {
    let mut events = told.story.as_ref().map(|story| history::of_story(story, WIDTH)).unwrap_or_default();
    events.extend(told.hearing.events(WIDTH));
    events.extend(told.decided.iter().map(|decided| {
        let among =
            if decided.leads > 1 { format!(", with others: {}", counted(decided.leads)) } else { String::new() };
        (decided.at, format!("{} by {}{among}", decided.action, printable(&decided.who)))
    }));
    events.sort_by_key(|(at, _)| *at);
    let shown = |(at, what): (DateTime<Utc>, String)| (moment(at, now), told.veil.text(&what).replace('`', ""));
    events.into_iter().map(shown).collect()
}
