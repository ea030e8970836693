//! The operator's decisions: send held leads, or record them as delivered; requeue stuck leads; lift a halt; pause. Each is recorded
//! with the operator's name. The command line and the dashboard ask and report in their own ways, and act through this file.

use chrono::{DateTime, Utc};

use crate::config::ServiceSettings;
use crate::error::SetupError;
use crate::rules::hold_reason::HoldReason;
use crate::rules::operator_pause::{OperatorPause, PauseScope};
use crate::store::control::{self, CompareAsked, FirstRunDone, ResumedAt, StoredHalt};
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::held::{self, HeldLeads, ReleaseKind, ReleaseOrder, ReleaseOutcome};
use crate::store::operator_pause::{self, PauseEnd};
use crate::store::resend::{self, ResendOrder};
use crate::store::state_db::StateDb;
use crate::store::stuck::{self, RetryOrder};
use crate::store::{bulk_decision, due, gone};
use crate::wording;

/// Releases the leads that were shown; [`ReleaseOutcome::Grown`] where more are held by now. `done` is told how many leads each
/// part had.
///
/// # Errors
/// [`SetupError`] where no more test leads may be sent; otherwise the state's.
pub async fn release(
    state: &StateDb,
    settings: &ServiceSettings,
    order: ReleaseOrder<'_>,
    now: DateTime<Utc>,
    done: impl FnMut(u64),
) -> anyhow::Result<ReleaseOutcome> {
    let ReleaseOrder { shown, release, .. } = order;
    refuse_more_tests(shown, release, settings, state).await?;
    if release == ReleaseKind::Send {
        // Only a full compare notices that a row was deleted while its lead was held. The request for it comes first: if this
        // process were killed in between, the lead would be sent without the compare.
        control::write(state, &CompareAsked { at: now }, now).await?;
    }
    bulk_decision::resume(state, now).await?;
    let released = held::release(state, order, now, done).await?;
    if released == ReleaseOutcome::Grown {
        return Ok(released);
    }
    if release == ReleaseKind::Send {
        gone::settle(state, settings.source.on_delete, now).await?;
    }
    if shown.reasons.contains_key(HoldReason::FirstRun.name()) && !held::any(state, Some(HoldReason::FirstRun)).await? {
        let by = match release {
            ReleaseKind::Send => "approve",
            ReleaseKind::Baseline => "baseline",
        };
        control::write(state, &FirstRunDone { by: by.to_owned() }, now).await?;
    }
    Ok(released)
}

/// Even with approval, no more test leads are sent than the limit allows: they would be held again at once.
///
/// # Errors
/// [`SetupError`] where the limit is reached; otherwise the state's.
pub async fn refuse_more_tests(
    held: &HeldLeads,
    release: ReleaseKind,
    settings: &ServiceSettings,
    state: &StateDb,
) -> anyhow::Result<()> {
    let conversica = &settings.conversica;
    let concerned = held.reasons.contains_key(HoldReason::TestLeadLimit.name()) && conversica.test_lead_token.is_some();
    if !concerned || release == ReleaseKind::Baseline {
        return Ok(());
    }
    if due::test_leads_left(state, conversica.test_lead_limit).await? > 0 {
        return Ok(());
    }
    Err(SetupError::new(
        format!("the Test Lead Token is set, and all of its {} leads have been used", conversica.test_lead_limit),
        "raise [conversica] test_lead_limit, or remove test_lead_token to send real leads; with --reason, what is held for \
         another reason can be approved",
    )
    .into())
}

/// Requeues rejected or exhausted leads, with their newest content. Returns their number.
/// `done` is told how many leads each part had.
pub async fn retry(
    state: &StateDb,
    order: RetryOrder<'_>,
    now: DateTime<Utc>,
    done: impl FnMut(u64),
) -> Result<u64, sqlx::Error> {
    stuck::requeue(state, order, now, done).await
}

/// Has accepted or assumed leads sent again; above `[safety] approve_above` they wait for approval first. `None` if there are more
/// leads than were shown. `done` is told how many leads each part had.
pub async fn resend(
    state: &StateDb,
    settings: &ServiceSettings,
    order: ResendOrder<'_>,
    now: DateTime<Utc>,
    done: impl FnMut(u64),
) -> anyhow::Result<Option<u64>> {
    // Only a full compare notices that a row was deleted meanwhile.
    control::write(state, &CompareAsked { at: now }, now).await?;
    let test_leads = settings.conversica.test_lead_token.is_some();
    if test_leads && due::test_leads_left(state, settings.conversica.test_lead_limit).await? == 0 {
        return Err(SetupError::new(
            format!(
                "the Test Lead Token is set, and all of its {} leads have been used",
                settings.conversica.test_lead_limit
            ),
            "raise [conversica] test_lead_limit, or remove test_lead_token to send real leads",
        )
        .into());
    }
    bulk_decision::resume(state, now).await?;
    Ok(resend::order(state, order, now, done).await?)
}

/// Lifts a halt; returns whether there was one.
pub async fn resume(state: &StateDb, who: &DecisionMaker, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let Some(halt) = control::read::<StoredHalt>(state).await? else { return Ok(false) };
    // Before the halt is cleared: a deliverer that finds no halt asks whether an operator has lifted it.
    control::write(state, &ResumedAt { at: now }, now).await?;
    decision::note(state, DecisionAction::Resume, who, Some(halt.reason.name()), now).await?;
    control::clear::<StoredHalt>(state).await
}

/// A pause that an operator wants.
#[derive(Debug, Clone, Copy)]
pub struct PauseOrder<'a> {
    pub scopes: &'a [PauseScope],
    pub until: Option<DateTime<Utc>>,
    pub reason: Option<&'a str>,
    pub who: &'a DecisionMaker,
}

/// Stops first contacts and updates, and returns the stored pauses. An earlier pause of the same scope is replaced.
pub async fn pause(
    state: &StateDb,
    order: PauseOrder<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<OperatorPause>, sqlx::Error> {
    let pause_of = |scope: &PauseScope| OperatorPause {
        conversation: match scope {
            PauseScope::Everybody => None,
            PauseScope::Conversation(name) => Some(name.clone()),
        },
        since: now,
        until: order.until,
        reason: order.reason.map(str::trim).filter(|reason| !reason.is_empty()).map(str::to_owned),
        who: order.who.as_str().to_owned(),
    };
    let pauses: Vec<OperatorPause> = order.scopes.iter().map(pause_of).collect();
    operator_pause::begin(state, &pauses, now).await?;
    Ok(pauses)
}

/// Ends the pauses of these conversations, or all pauses if none is named. Returns what to say.
///
/// # Errors
/// [`SetupError`] where one of them is not paused, and then nothing is changed; otherwise the state's.
pub async fn unpause(
    state: &StateDb,
    conversations: &[String],
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<String>> {
    match operator_pause::end(state, conversations, who, now).await? {
        PauseEnd::NotPaused(scopes, in_force) => Err(wording::not_paused(&scopes, in_force.as_ref()).into()),
        PauseEnd::Ended(ended) => {
            let left = operator_pause::read(state, now).await?;
            Ok(vec![wording::pause_ended(&ended, left.as_ref())])
        }
    }
}
