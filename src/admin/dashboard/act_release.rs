//! The decision about held leads: send them, or treat them as delivered. Words and effects equal those of the command line.

use super::act_preview::{ActionPreview, ActionResult, TAKEN_UP};
use super::effect::ShownEffect;
use super::verdict::counted;
use crate::admin::dashboard::board::DashboardContext;
use crate::error::SetupError;
use crate::store::decided_contents::DecidedLeads;
use crate::store::decision::DecisionMaker;
use crate::store::held::{self, HeldLeads, HeldSelection, ReleaseKind, ReleaseOrder, ReleaseOutcome};
use crate::store::state_db::StateDb;
use crate::{clock, decide, wording};

/// The form of a decision about held leads.
pub struct ReleaseForm<'a> {
    pub release: ReleaseKind,
    pub selection: &'a HeldSelection,
    /// The name of the set that was shown.
    pub shown: &'a str,
    pub who: &'a DecisionMaker,
}

/// Only reads; `Err` says why the decision has no effect.
pub async fn preview(
    board: &DashboardContext,
    db: &StateDb,
    release: ReleaseKind,
    selection: &HeldSelection,
) -> anyhow::Result<Result<ActionPreview, String>> {
    let held = held::look(db, selection).await?;
    if held.leads == 0 {
        return Ok(Err("Nothing of that is held.".to_owned()));
    }
    match decide::refuse_more_tests(&held, release, &board.settings, db).await {
        Ok(()) => {
            let effect = match release {
                ReleaseKind::Send => {
                    ShownEffect::of(board, db, DecidedLeads::Held(selection), held.leads - held.missing).await?
                }
                // Conversica gets nothing.
                ReleaseKind::Baseline => ShownEffect::default(),
            };
            Ok(Ok(ActionPreview { effect, ..preview_of(board, release, &held) }))
        }
        Err(error) => match error.downcast::<SetupError>() {
            Ok(SetupError { what, cure }) => Ok(Err(format!("{what}: {cure}"))),
            Err(error) => Err(error),
        },
    }
}

fn preview_of(board: &DashboardContext, release: ReleaseKind, held: &HeldLeads) -> ActionPreview {
    let (title, button) = match release {
        ReleaseKind::Send => ("Approve", "Approve and send"),
        ReleaseKind::Baseline => ("Baseline", "Treat as delivered"),
    };
    let aside = match release {
        ReleaseKind::Send => "Conversica then writes to these people.",
        ReleaseKind::Baseline => "Nothing is sent for them; later changes are.",
    };
    ActionPreview {
        title: format!("{title} {}", counted(held.leads)),
        question: wording::question(held, release, board.settings.source.on_delete),
        asides: vec![
            aside.to_owned(),
            "It covers exactly what is shown here; what joins meanwhile is shown first.".to_owned(),
        ],
        button,
        shown: held.set_name(),
        ..ActionPreview::default()
    }
}

pub async fn carry_out(board: &DashboardContext, db: &StateDb, form: ReleaseForm<'_>) -> anyhow::Result<ActionResult> {
    let ReleaseForm { release, selection, shown, who } = form;
    let Some(shown) = HeldLeads::named(shown) else {
        return Ok(ActionResult::Grown("Look again, please.".to_owned()));
    };
    let held = held::look(db, selection).await?;
    if held.leads == 0 {
        return Ok(ActionResult::Said("Nothing of that is held any more. Nothing was changed.".to_owned()));
    }
    let grown = |now: i64| Ok(ActionResult::Grown(wording::outgrown(shown.leads, now)));
    if held.has_outgrown(&shown) {
        return grown(held.leads);
    }
    let order = ReleaseOrder { selection, shown: &held, release, who };
    match decide::release(db, &board.settings, order, clock::now(), |_| ()).await? {
        ReleaseOutcome::Grown => grown(held::look(db, selection).await?.leads),
        ReleaseOutcome::Leads(leads) => {
            let on_delete = board.settings.source.on_delete;
            let mut said = wording::released(&leads, release, on_delete).join(" ");
            if release == ReleaseKind::Send {
                said.push_str(TAKEN_UP);
            }
            Ok(ActionResult::Said(said))
        }
    }
}
