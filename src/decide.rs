//! What a person decides: to send what is held, or to take it as delivered; to put stuck leads back; to lift a halt. Each is
//! written down with who did it. The command line and the dashboard ask and tell in their own ways, and act here.

use chrono::{DateTime, Utc};

use crate::config::ServiceSettings;
use crate::error::SetupError;
use crate::rules::guard::StandingHold;
use crate::rules::hold_reason::{FIRST_RUN, TEST_LEAD_LIMIT};
use crate::rules::lead_status::LeadStatus;
use crate::store::control::{self, CompareAsked, FirstRunDone, ResumedAt, StoredHalt};
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::held::{self, HeldLeads, ReleaseKind, ReleaseOrder, ReleaseOutcome};
use crate::store::state_db::StateDb;
use crate::store::{due, gone, stuck};

/// Releases what was shown; [`Released::Grown`] where more is held by now.
///
/// # Errors
/// [`SetupError`] where no more test leads may be sent; otherwise the state's.
pub async fn release(
    state: &StateDb,
    settings: &ServiceSettings,
    order: ReleaseOrder<'_>,
    now: DateTime<Utc>,
) -> anyhow::Result<ReleaseOutcome> {
    let ReleaseOrder { shown, release, .. } = order;
    refuse_more_tests(shown, release, settings, state).await?;
    // A poll that comes before us takes a hold of which nothing is left for over.
    let hold = control::read::<StandingHold>(state).await?;
    if release == ReleaseKind::Send {
        // Only a comparison of every row notices that a row was deleted while its lead was held. It is asked for first: were this process
        // killed in between, the lead would be sent without it.
        control::write(state, &CompareAsked { at: now }, now).await?;
    }
    let released = held::release(state, order, now).await?;
    if released == ReleaseOutcome::Grown {
        return Ok(released);
    }
    if release == ReleaseKind::Send {
        gone::settle(state, settings.source.on_delete, now, now).await?;
    }
    if let Some(hold) = &hold {
        settle_hold(state, hold, release, now).await?;
    }
    Ok(released)
}

/// Approved or not, no more test leads are sent than the limit allows: they would be held again at once.
///
/// # Errors
/// [`SetupError`] where that is so; otherwise the state's.
pub async fn refuse_more_tests(
    held: &HeldLeads,
    release: ReleaseKind,
    settings: &ServiceSettings,
    state: &StateDb,
) -> anyhow::Result<()> {
    let conversica = &settings.conversica;
    let concerned = held.reasons.contains_key(TEST_LEAD_LIMIT) && conversica.test_lead_token.is_some();
    if !concerned || release == ReleaseKind::Baseline {
        return Ok(());
    }
    if due::test_leads_left(state, conversica.test_lead_limit).await? > 0 {
        return Ok(());
    }
    Err(SetupError::new(
        format!("the Test Lead Token is set, and all of its {} leads have been used", conversica.test_lead_limit),
        "raise [conversica] test_lead_limit, or remove test_lead_token to send in earnest; with --reason, what is held for \
         another reason can be approved",
    )
    .into())
}

/// The hold is over when nothing is left of what it held. The leads came first: were the hold lifted first, a poll in
/// between could send what nobody approved.
async fn settle_hold(
    state: &StateDb,
    hold: &StandingHold,
    release: ReleaseKind,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if held::any(state, Some(&hold.reason)).await? {
        return Ok(());
    }
    if hold.reason == FIRST_RUN {
        let by = match release {
            ReleaseKind::Send => "approve",
            ReleaseKind::Baseline => "baseline",
        };
        control::write(state, &FirstRunDone { by: by.to_owned() }, now).await?;
    }
    control::clear::<StandingHold>(state).await?;
    Ok(())
}

/// Puts rejected or exhausted leads back in the queue, with their newest content: all of them, or those of `ids`. Returns how
/// many that was.
pub async fn retry(
    state: &StateDb,
    statuses: &[LeadStatus],
    ids: Option<&[String]>,
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    stuck::requeue(state, statuses, ids, Some(who), now).await
}

/// Lifts a halt; whether there was one.
pub async fn resume(state: &StateDb, who: &DecisionMaker, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let Some(halt) = control::read::<StoredHalt>(state).await? else { return Ok(false) };
    // Before the halt goes: whoever finds none asks whether a person has lifted it.
    control::write(state, &ResumedAt { at: now }, now).await?;
    decision::note(state, DecisionAction::Resume, who, Some(halt.reason.name()), now).await?;
    control::clear::<StoredHalt>(state).await
}
