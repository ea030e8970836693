//! Decisions about leads that an operator has chosen: send them again, or never write to the people behind them. Words and effects
//! equal those of the command line.

use std::collections::BTreeSet;

use super::act_preview::{ActionPreview, ActionResult, TAKEN_UP};
use super::effect::ShownEffect;
use super::frame::lead_name;
use super::verdict::counted;
use crate::admin::dashboard::board::DashboardContext;
use crate::console::printable;
use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::rules::contact::{ContactKind, ContactPoint};
use crate::rules::shown_set::ShownSet;
use crate::store::decided_contents::DecidedLeads;
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::lead_table::{self, SeenLead};
use crate::store::resend::{self, ResendOrder, ResendSelection};
use crate::store::state_db::StateDb;
use crate::store::suppression;
use crate::{clock, decide, wording};

fn resend_of(ids: &[String]) -> ResendSelection {
    ResendSelection { ids: ids.to_vec(), ..ResendSelection::default() }
}

/// Above the limit the leads wait for approval first.
fn waits_for_approval(board: &DashboardContext, leads: i64) -> bool {
    let limit = i64::from(board.settings.safety.approve_above);
    limit > 0 && leads > limit
}

/// Only reads; `Err` says why the decision has no effect.
pub async fn preview_resend(
    board: &DashboardContext,
    db: &StateDb,
    ids: &[String],
) -> anyhow::Result<Result<ActionPreview, String>> {
    let selection = resend_of(ids);
    let groups = resend::look(db, &selection).await?;
    let leads: i64 = groups.iter().map(|group| group.leads).sum();
    let assumed = groups.iter().map(|group| group.assumed).sum();
    if leads == 0 {
        let nothing = "None of these leads can be sent again: only leads that are up to date or assumed known can. Others wait \
                       to be sent already, or for a retry or an approval.";
        return Ok(Err(nothing.to_owned()));
    }
    let mut asides = wording::resend_groups(&groups);
    asides.push(
        "Conversica gets the same content once more, under the same id: for leads that it has, as an update."
            .to_owned(),
    );
    if waits_for_approval(board, leads) {
        asides
            .push(format!("They wait for approval first: more than {} at once.", board.settings.safety.approve_above));
    }
    Ok(Ok(ActionPreview {
        title: format!("Send {} again", counted(leads)),
        question: format!("Send {} again? {}", wording::leads(leads), wording::resend_people(leads, assumed)),
        asides,
        button: "Send again",
        shown: ShownSet { leads, newest: resend::newest(db, &selection).await? }.name(),
        effect: ShownEffect::of(board, db, DecidedLeads::Resent(&selection), leads).await?,
        ..ActionPreview::default()
    }))
}

pub async fn carry_out_resend(
    board: &DashboardContext,
    db: &StateDb,
    ids: &[String],
    shown: &str,
    who: &DecisionMaker,
) -> anyhow::Result<ActionResult> {
    let Some(shown) = ShownSet::named(shown) else {
        return Ok(ActionResult::Grown("Look again, please.".to_owned()));
    };
    let selection = resend_of(ids);
    let newest = resend::newest(db, &selection).await?;
    if (ShownSet { newest, ..shown }).has_outgrown(shown) {
        let sent = "Some of these leads were sent since they were shown. See whether they are still to be sent again.";
        return Ok(ActionResult::Grown(sent.to_owned()));
    }
    let is_held = waits_for_approval(board, shown.leads);
    let order = ResendOrder { selection: &selection, shown: shown.leads, is_held, who };
    let limit = i64::from(board.settings.safety.approve_above);
    Ok(match decide::resend(db, &board.settings, order, clock::now(), |_| ()).await? {
        None => ActionResult::Grown("More leads fit than were shown.".to_owned()),
        Some(leads) if is_held => ActionResult::Said(wording::resend_held(leads, limit)),
        Some(leads) => ActionResult::Said(wording::resend_queued(leads)),
    })
}

/// How many people a page names.
const NAMED: usize = 20;

/// Says so if an id is that of leads of several clients: a decision by ids would concern all of them, and only one may be meant.
pub async fn several_clients(db: &StateDb, ids: &[String]) -> Result<Option<String>, sqlx::Error> {
    let leads = lead_table::with_ids(db, ids).await?;
    let leads: Vec<&LeadId> = leads.iter().map(|seen| &seen.listed.lead).collect();
    let twice =
        leads.iter().find(|lead| leads.iter().any(|other| other.id == lead.id && other.client_id != lead.client_id));
    Ok(twice.map(|lead| {
        format!(
            "{} is the id of leads of several clients, and a decision here would concern all of them. Nothing was changed. The \
             command of the same name says how many leads it concerns, and asks.",
            lead.id
        )
    }))
}

/// The leads of a decision, and the addresses and numbers of the people behind them.
struct ChosenPeople {
    leads: usize,
    /// Leads without a known address or number.
    unknown: usize,
    points: Vec<ContactPoint>,
    names: Vec<String>,
}

impl ChosenPeople {
    async fn of(db: &StateDb, ids: &[String]) -> Result<Self, sqlx::Error> {
        let leads = lead_table::with_ids(db, ids).await?;
        let name = |seen: &SeenLead| {
            let id = lead_name(&seen.listed.lead);
            if seen.person.name.is_empty() { id } else { format!("{} ({id})", printable(&seen.person.name)) }
        };
        let names = leads.iter().map(name).collect();
        let leads = leads.len();
        let (mut points, mut known): (BTreeSet<ContactPoint>, BTreeSet<LeadId>) = Default::default();
        for (lead, body) in lead_table::contents_of(db, ids).await? {
            // Whole domains belong to others too.
            let own = ContactPoint::of_lead_object(&body).into_iter().filter(|point| point.kind != ContactKind::Domain);
            let own: Vec<ContactPoint> = own.collect();
            if !own.is_empty() {
                known.insert(lead);
            }
            points.extend(own);
        }
        Ok(Self { leads, unknown: leads.saturating_sub(known.len()), points: points.into_iter().collect(), names })
    }

    /// Another address of the same people makes another name.
    fn name(&self) -> String {
        let points: Vec<String> = self.points.iter().map(|point| format!("{point:?}")).collect();
        format!("{}-{}", self.leads, ContentFingerprint::of(points.join("\n").as_bytes()))
    }

    /// Who they are, for the page; the first of them if there are many.
    fn who(&self) -> String {
        let mut names = self.names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if self.names.len() > NAMED {
            names.push_str(&format!(" and {} more", self.names.len() - NAMED));
        }
        names
    }

    fn count(&self, kind: ContactKind) -> usize {
        self.points.iter().filter(|point| point.kind == kind).count()
    }
}

pub async fn preview_suppress(db: &StateDb, ids: &[String]) -> anyhow::Result<Result<ActionPreview, String>> {
    let people = ChosenPeople::of(db, ids).await?;
    if people.points.is_empty() {
        return Ok(Err("No address and no telephone number of these leads is known.".to_owned()));
    }
    let leads = i64::try_from(people.leads).unwrap_or(i64::MAX);
    let addresses = wording::counted(people.count(ContactKind::Address), "e-mail address", "e-mail addresses");
    let numbers = wording::counted(people.count(ContactKind::Number), "telephone number", "telephone numbers");
    let mut asides = vec![
        people.who(),
        format!("{addresses} and {numbers} go on the suppression list, as keyed hashes. It holds for every lead that has them."),
        "Leads that Conversica knows are sent with the opt-out. Leads that it does not know are never introduced.".to_owned(),
        "The command suppress remove takes a person off the list again; Conversica does not undo an opt-out from e-mails.".to_owned(),
    ];
    if people.unknown > 0 {
        let unknown = wording::leads(i64::try_from(people.unknown).unwrap_or(i64::MAX));
        asides.push(format!("Of {unknown}, no address and no number is known."));
    }
    Ok(Ok(ActionPreview {
        title: format!("Never write to the people of {}", counted(leads)),
        question: format!("Never write to the people of {} again?", wording::leads(leads)),
        asides,
        button: "Put them on the list",
        shown: people.name(),
        ..ActionPreview::default()
    }))
}

pub async fn carry_out_suppress(
    db: &StateDb,
    ids: &[String],
    shown: &str,
    who: &DecisionMaker,
) -> anyhow::Result<ActionResult> {
    let people = ChosenPeople::of(db, ids).await?;
    if people.name() != shown {
        return Ok(ActionResult::Grown("What is known of these leads has changed meanwhile.".to_owned()));
    }
    let now = clock::now();
    let added = suppression::add(db, &people.points, now).await?;
    decision::note(db, DecisionAction::Suppress, who, None, now).await?;
    let added = wording::counted(added, "address or number", "addresses and numbers");
    Ok(ActionResult::Said(format!("{added} added to the suppression list.{TAKEN_UP}")))
}
