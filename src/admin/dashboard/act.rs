//! The operator's decisions on the dashboard. A page first shows how many leads a decision concerns and how many people would be
//! contacted for the first time; only that page's form carries it out. Words and effects equal those of the command line.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use secrecy::ExposeSecret;
use tracing::{info, warn};

use super::act_pause::{self, PauseForm};
use super::act_people;
use super::act_preview::{ActionInput, ActionPreview, ActionResult, TAKEN_UP};
use super::act_release::{self, ReleaseForm};
use super::door::{is_of_our_pages, same_secret};
use super::effect::ShownEffect;
use super::enter::not_ours;
use super::frame::{PageFrame, QueryParameters, away, note, page};
use super::verdict::counted;
use super::visitor::page_of_ours;
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::{DashboardVisitor, PeopleVisitor};
use crate::db::discreet::in_words;
use crate::error::SetupError;
use crate::rules::lead_status::LeadStatus;
use crate::rules::shown_set::ShownSet;
use crate::store::control::{self, StoredHalt};
use crate::store::decided_contents::DecidedLeads;
use crate::store::decision::DecisionMaker;
use crate::store::held::{HeldSelection, ReleaseKind};
use crate::store::state_db::StateDb;
use crate::store::stuck::{self, RetryOrder, StuckLeads};
use crate::store::{file_lock, micros};
use crate::{clock, decide, wording};

/// The decision, and the leads that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OperatorAction {
    Release(ReleaseKind, HeldSelection),
    Retry(Vec<LeadStatus>, Option<Vec<String>>),
    /// Leads with these ids, sent again though nothing waits for it.
    Resend(Vec<String>),
    /// The people of the leads with these ids are never written to.
    Suppress(Vec<String>),
    Resume,
    Pause(PauseForm),
    /// Of these conversations, or all pauses if none is named.
    Unpause(Vec<String>),
}

impl OperatorAction {
    /// Where leads are chosen on a page and none is marked, there is no decision: it would be one about all.
    fn read(name: &str, asked: &QueryParameters) -> Option<Self> {
        let ids: Vec<String> = asked.all("id").into_iter().filter(|id| !id.contains('\0')).collect();
        if ids.is_empty() && !asked.get("chosen").is_empty() {
            return None;
        }
        let some = (!ids.is_empty()).then(|| ids.clone());
        let reason = Some(asked.get("reason")).filter(|reason| !reason.is_empty()).map(str::to_owned);
        let selection = HeldSelection { ids, reason };
        match (name, asked.get("status")) {
            ("approve", _) => Some(Self::Release(ReleaseKind::Send, selection)),
            ("baseline", _) => Some(Self::Release(ReleaseKind::Baseline, selection)),
            ("resend", _) => Some(Self::Resend(some?)),
            ("suppress", _) => Some(Self::Suppress(some?)),
            ("resume", _) => Some(Self::Resume),
            ("pause", _) => Some(Self::Pause(PauseForm::read(asked))),
            ("unpause", _) => {
                let named = Some(asked.get("conversation")).filter(|name| !name.is_empty());
                Some(Self::Unpause(named.map(str::to_owned).into_iter().collect()))
            }
            ("retry", "rejected") => Some(Self::Retry(vec![LeadStatus::Rejected], some)),
            ("retry", "exhausted") => Some(Self::Retry(vec![LeadStatus::Exhausted], some)),
            // Without a status the request means named leads, never all.
            ("retry", "") => Some(Self::Retry(vec![LeadStatus::Rejected, LeadStatus::Exhausted], Some(some?))),
            _ => None,
        }
    }

    /// The ids of the leads that were chosen, if any were.
    fn ids(&self) -> &[String] {
        match self {
            Self::Release(_, selection) => &selection.ids,
            Self::Retry(_, ids) => ids.as_deref().unwrap_or_default(),
            Self::Resend(ids) | Self::Suppress(ids) => ids,
            Self::Resume | Self::Pause(_) | Self::Unpause(_) => &[],
        }
    }

    /// Only reads; `Err` says why the decision has no effect.
    async fn prospect(&self, board: &DashboardContext, db: &StateDb) -> anyhow::Result<Result<ActionPreview, String>> {
        if let Some(several) = act_people::several_clients(db, self.ids()).await? {
            return Ok(Err(several));
        }
        match self {
            Self::Release(release, selection) => act_release::preview(board, db, *release, selection).await,
            Self::Resend(ids) => act_people::preview_resend(board, db, ids).await,
            Self::Suppress(ids) => act_people::preview_suppress(db, ids).await,
            Self::Retry(statuses, ids) => {
                let stuck = stuck::look(db, statuses, ids.as_deref()).await?;
                if stuck.leads == 0 {
                    return Ok(Err("Nothing of that is stuck any more.".to_owned()));
                }
                let leads = DecidedLeads::Stuck(statuses, ids.as_deref());
                let effect = ShownEffect::of(board, db, leads, stuck.leads).await?;
                let newest = stuck::newest(db, statuses, ids.as_deref()).await?;
                let shown = ShownSet { leads: stuck.leads, newest }.name();
                Ok(Ok(ActionPreview { effect, shown, ..of_retry(stuck) }))
            }
            Self::Resume => {
                let Some(halt) = control::read::<StoredHalt>(db).await? else {
                    return Ok(Err(wording::resumed(false).to_owned()));
                };
                Ok(Ok(ActionPreview {
                    title: "Lift the halt".to_owned(),
                    question: format!("Lift the halt ({}) of {}?", halt.reason.name(), halt.since.format("%F %T UTC")),
                    asides: vec![
                        "First see that its cause is fixed: wrong credentials that are tried again can lock the account.".to_owned(),
                        "The next request goes alone, until Conversica accepts it.".to_owned(),
                    ],
                    button: "Lift the halt",
                    shown: micros(halt.since).to_string(),
                    ..ActionPreview::default()
                }))
            }
            Self::Pause(form) => Ok(Ok(form.preview(db, clock::now()).await?)),
            Self::Unpause(conversations) => Ok(act_pause::preview_end(db, conversations, clock::now()).await?),
        }
    }

    /// Carries out the decision for the leads that were shown.
    async fn done(
        &self,
        board: &DashboardContext,
        db: &StateDb,
        shown: &str,
        who: &DecisionMaker,
    ) -> anyhow::Result<ActionResult> {
        let now = clock::now();
        if let Some(several) = act_people::several_clients(db, self.ids()).await? {
            return Ok(ActionResult::Grown(several));
        }
        match self {
            Self::Release(release, selection) => {
                act_release::carry_out(board, db, ReleaseForm { release: *release, selection, shown, who }).await
            }
            Self::Resend(ids) => act_people::carry_out_resend(board, db, ids, shown, who).await,
            Self::Suppress(ids) => act_people::carry_out_suppress(db, ids, shown, who).await,
            Self::Retry(statuses, ids) => {
                let stuck = stuck::look(db, statuses, ids.as_deref()).await?;
                let Some(shown) = ShownSet::named(shown) else {
                    return Ok(ActionResult::Grown("Look again, please.".to_owned()));
                };
                let newest = stuck::newest(db, statuses, ids.as_deref()).await?;
                if (ShownSet { leads: stuck.leads, newest }).has_outgrown(shown) {
                    let more = match stuck.leads > shown.leads {
                        true => {
                            format!("More is stuck than was shown: {} then, {} now.", counted(shown.leads), stuck.leads)
                        }
                        false => "Other leads are stuck than were shown.".to_owned(),
                    };
                    return Ok(ActionResult::Grown(more));
                }
                let requeued =
                    decide::retry(db, RetryOrder { statuses, ids: ids.as_deref(), reason: None, who }, now, |_| ())
                        .await?;
                Ok(ActionResult::Said(wording::requeued(requeued) + if requeued > 0 { TAKEN_UP } else { "" }))
            }
            Self::Resume => {
                let halt = control::read::<StoredHalt>(db).await?;
                if halt.is_some_and(|halt| micros(halt.since).to_string() != shown) {
                    return Ok(ActionResult::Grown("There is another halt by now.".to_owned()));
                }
                Ok(ActionResult::Said(wording::resumed(decide::resume(db, who, now).await?).to_owned()))
            }
            Self::Pause(form) => form.carry_out(db, shown, who, now).await,
            Self::Unpause(conversations) => act_pause::carry_out_end(db, conversations, shown, who, now).await,
        }
    }
}

fn of_retry(stuck: StuckLeads) -> ActionPreview {
    let people = match stuck.new_people {
        0 => "No person is contacted for the first time.".to_owned(),
        1 => "1 person will be contacted for the first time.".to_owned(),
        people => format!("{people} people will be contacted for the first time."),
    };
    ActionPreview {
        title: format!("Retry {}", counted(stuck.leads)),
        question: format!("Put {} back in the queue? {people}", wording::leads(stuck.leads)),
        asides: vec![
            "They are sent with their newest content. What Conversica refused for its content, it refuses again."
                .to_owned(),
        ],
        button: "Retry",
        ..ActionPreview::default()
    }
}

#[derive(Template)]
#[template(path = "admin/dashboard/confirm.html", config = ".askama.toml")]
struct ConfirmPage {
    frame: PageFrame,
    title: String,
    notice: Option<String>,
    question: String,
    asides: Vec<String>,
    action: String,
    inputs: Vec<ActionInput>,
    fields: Vec<(&'static str, String)>,
    button: &'static str,
    back: String,
    effect: ShownEffect,
}

fn confirm(
    frame: PageFrame,
    name: &str,
    asked: &QueryParameters,
    mut prospect: ActionPreview,
    notice: Option<String>,
) -> ConfirmPage {
    // A pause has a reason instead, which everybody sees while it lasts.
    if name != "pause" {
        let value = asked.get("comment").to_owned();
        let hint = "why, for the list of decisions; name no people";
        prospect.inputs.push(ActionInput { name: "comment", label: "Comment", hint, value });
    }
    let carried = ["status", "reason", "conversation", "back"];
    let is_input = |field: &&str| prospect.inputs.iter().any(|input| input.name == *field);
    let carried =
        carried.into_iter().filter(|field| !is_input(field)).map(|field| (field, asked.get(field).to_owned()));
    let ids = asked.all("id").into_iter().map(|id| ("id", id));
    let carried = ids.chain(carried.filter(|(_, value)| !value.is_empty()));
    let fields: Vec<_> = carried.chain([("shown", prospect.shown.clone())]).collect();
    ConfirmPage {
        frame,
        title: prospect.title,
        notice,
        question: prospect.question,
        asides: prospect.asides,
        inputs: prospect.inputs,
        action: format!("/act/{name}"),
        fields,
        button: prospect.button,
        back: page_of_ours(asked.get("back")).to_owned(),
        effect: prospect.effect,
    }
}

/// The page that asks for confirmation.
pub async fn ask(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    Path(name): Path<String>,
    RawQuery(asked): RawQuery,
) -> Response {
    if !visitor.may_act() {
        return may_not(&board, &visitor);
    }
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let Some(deed) = OperatorAction::read(&name, &asked) else {
        if !asked.get("chosen").is_empty() && asked.all("id").is_empty() {
            return nothing_to_do(
                &board,
                &visitor,
                "No lead is marked. Mark the leads that you mean, then choose again.",
                &asked,
            );
        }
        return unknown(&board, &visitor);
    };
    match looked(&board, &deed).await {
        None => away(&board, &visitor),
        Some(Err(nothing)) => nothing_to_do(&board, &visitor, &nothing, &asked),
        Some(Ok(prospect)) => {
            let frame = PageFrame::of(&board, &visitor, prospect.title.clone());
            page(StatusCode::OK, &confirm(frame, &name, &asked, prospect, None))
        }
    }
}

/// Handles the form of that page.
pub async fn act(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(session) = visitor.session.clone().filter(|_| visitor.may_act()) else {
        return may_not(&board, &visitor);
    };
    let form = QueryParameters::read(&body);
    if !is_of_our_pages(&headers) || !same_secret(form.get("form_token"), &session.form_token) {
        return not_ours();
    }
    let Some(deed) = OperatorAction::read(&name, &form) else { return unknown(&board, &visitor) };
    let who = DecisionMaker::new(match &session.holder.name {
        Some(name) => format!("{name} (dashboard, {})", visitor.address),
        None => format!("dashboard, {}", visitor.address),
    })
    .with_comment(form.get("comment"));
    // Runs to its end even if the client disconnects: a decision must not stop half-way.
    let task = tokio::spawn({
        let board = board.clone();
        let shown = form.get("shown").to_owned();
        async move { decided(&board, &deed, &shown, &who).await.map(|done| (done, deed)) }
    });
    match task.await.map_err(anyhow::Error::from).flatten() {
        Ok((ActionResult::Said(said), _)) => {
            info!(address = %visitor.address, operator = session.holder.name, deed = name, said, "decided at the dashboard");
            board.sessions.say(&session.key, said);
            board.forget();
            Redirect::to(page_of_ours(form.get("back"))).into_response()
        }
        Ok((ActionResult::Grown(notice), deed)) => match looked(&board, &deed).await {
            None => away(&board, &visitor),
            Some(Err(nothing)) => nothing_to_do(&board, &visitor, &nothing, &form),
            Some(Ok(prospect)) => {
                let frame = PageFrame::of(&board, &visitor, prospect.title.clone());
                page(StatusCode::CONFLICT, &confirm(frame, &name, &form, prospect, Some(notice)))
            }
        },
        Err(error) => match error.downcast::<SetupError>() {
            Ok(SetupError { what, cure }) => note(
                StatusCode::CONFLICT,
                PageFrame::of(&board, &visitor, "Not done"),
                &what,
                &cure,
                Some(("Overview", "/")),
            ),
            Err(error) => {
                warn!(error = in_words(&error), "a decision made at the dashboard could not be recorded");
                away(&board, &visitor)
            }
        },
    }
}

/// Counts all held leads; there may be millions before the first approval.
async fn looked(board: &DashboardContext, deed: &OperatorAction) -> Option<Result<ActionPreview, String>> {
    board.desk.window.read_within(Duration::from_secs(60), async |db| deed.prospect(board, db).await).await
}

/// Opens the state for writing, for this decision alone, as a command beside the daemon does.
async fn decided(
    board: &DashboardContext,
    deed: &OperatorAction,
    shown: &str,
    who: &DecisionMaker,
) -> anyhow::Result<ActionResult> {
    let _turn = board.acting.lock().await;
    let url = board.settings.state.url.expose_secret();
    file_lock::refuse_lost(url)?;
    let db = StateDb::open_existing_state(url).await?;
    let done = deed.done(board, &db, shown, who).await;
    db.close().await;
    done
}

/// For an operator who may only look, and for a visitor with a bearer token, which has no forms.
fn may_not(board: &DashboardContext, visitor: &DashboardVisitor) -> Response {
    const WHAT: &str = "To act here, sign in.";
    const LOOKS: &str = "You may look here, and not decide. Nothing was done.";
    const CURE: &str = "Ask an operator who may, or let `role` be \"act\" for your name under `[[admin.operator]]` and start `run` again.";
    if visitor.session.is_some() {
        let frame = PageFrame::of(board, visitor, "Not done");
        return note(StatusCode::FORBIDDEN, frame, LOOKS, CURE, Some(("Overview", "/")));
    }
    note(StatusCode::FORBIDDEN, PageFrame::of(board, visitor, "Not done"), WHAT, "", Some(("Sign in", "/login")))
}

fn unknown(board: &DashboardContext, visitor: &DashboardVisitor) -> Response {
    let frame = PageFrame::of(board, visitor, "Not found");
    note(StatusCode::NOT_FOUND, frame, "There is no such thing to do.", "", Some(("Overview", "/")))
}

fn nothing_to_do(
    board: &DashboardContext,
    visitor: &DashboardVisitor,
    what: &str,
    asked: &QueryParameters,
) -> Response {
    let back = page_of_ours(asked.get("back"));
    note(StatusCode::OK, PageFrame::of(board, visitor, "Nothing to do"), what, "", Some(("Back", back)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_read_and_a_retry_is_never_of_all_by_omission() {
        let read = |name: &str, asked: &str| OperatorAction::read(name, &QueryParameters::read(asked.as_bytes()));
        let one = Some(vec!["a/b".to_owned()]);
        assert_eq!(
            read("retry", "id=a%2Fb"),
            Some(OperatorAction::Retry(vec![LeadStatus::Rejected, LeadStatus::Exhausted], one))
        );
        assert_eq!(read("retry", "status=exhausted"), Some(OperatorAction::Retry(vec![LeadStatus::Exhausted], None)));
        for (name, asked) in
            [("approve", "chosen=1"), ("baseline", "chosen=1&id="), ("retry", "chosen=1&status=rejected")]
        {
            assert_eq!(read(name, asked), None, "nothing is marked: {name} {asked}");
        }
        let two = || vec!["1".to_owned(), "2".to_owned()];
        assert_eq!(read("resend", "chosen=1&id=1&id=2"), Some(OperatorAction::Resend(two())));
        assert_eq!(read("suppress", "id=1&id=2"), Some(OperatorAction::Suppress(two())));
        for (name, asked) in [
            ("retry", ""),
            ("retry", "id="),
            ("retry", "status=held"),
            ("erase", "id=1"),
            ("", ""),
            ("resend", ""),
            ("suppress", "id="),
        ] {
            assert_eq!(read(name, asked), None, "{name} {asked}");
        }
        assert_eq!(
            read("approve", "reason=first_run"),
            Some(OperatorAction::Release(
                ReleaseKind::Send,
                HeldSelection::reason(crate::rules::hold_reason::HoldReason::FirstRun)
            ))
        );
        assert_eq!(
            read("baseline", ""),
            Some(OperatorAction::Release(ReleaseKind::Baseline, HeldSelection::default()))
        );
        assert_eq!(read("resume", "id=1"), Some(OperatorAction::Resume));
        assert_eq!(read("unpause", ""), Some(OperatorAction::Unpause(Vec::new())));
        assert_eq!(read("unpause", "conversation=Spring"), Some(OperatorAction::Unpause(vec!["Spring".to_owned()])));
    }
}
