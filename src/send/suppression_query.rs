//! Takes over the answer of `[consent] suppression_query` before a full compare. An answer that is the same as before is recognised by
//! its fingerprint, and nothing is written.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::conversica::lead::ContentFingerprint;
use crate::rules::contact::ContactPoint;
use crate::send::poll_context::PollContext;
use crate::source::suppression_query::SuppressionValues;
use crate::store::control::{self, ControlFact};
use crate::store::suppression_entries;

/// The answer that was taken over last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TakenAnswer {
    /// The same for the same values in any order.
    fingerprint: String,
    values: u64,
    /// Values that name no address, number or domain.
    unreadable: u64,
}

impl TakenAnswer {
    /// Values that name an address, number or domain.
    fn usable(&self) -> u64 {
        self.values.saturating_sub(self.unreadable)
    }
}

impl ControlFact for TakenAnswer {
    const NAME: &'static str = "suppression_answer";
}

/// The message of a poll that cannot read the query.
const FAILED: &str =
    "[consent] suppression_query cannot be read: it must select one column of addresses, numbers or domains";

/// The running fingerprint of an answer.
#[derive(Default)]
struct AnswerDigest {
    sum: u128,
    values: u64,
    unreadable: u64,
}

impl AnswerDigest {
    /// Blank values are left out.
    fn read(&mut self, values: &[String]) -> Vec<ContactPoint> {
        let mut points = Vec::with_capacity(values.len());
        for value in values.iter().filter(|value| !value.trim().is_empty()) {
            self.values += 1;
            match ContactPoint::parse(value) {
                Ok(point) => {
                    let ContentFingerprint(bytes) = ContentFingerprint::of(point.text.as_bytes());
                    self.sum = self.sum.wrapping_add(u128::from_le_bytes(bytes));
                    points.push(point);
                }
                Err(_) => self.unreadable += 1,
            }
        }
        points
    }

    fn answer(&self) -> TakenAnswer {
        TakenAnswer { fingerprint: format!("{:032x}", self.sum), values: self.values, unreadable: self.unreadable }
    }
}

/// Reads the query and makes the entries agree with its answer. Without a query, its entries are removed.
///
/// # Errors
/// Those of both databases: while the answer cannot be read, the poll does not go on.
pub(crate) async fn take_over_answer(context: PollContext<'_>) -> anyhow::Result<()> {
    let PollContext { crm, state, settings, now, .. } = context;
    let query = settings.consent.suppression_query.trim().trim_end_matches(';');
    let taken = control::read::<TakenAnswer>(state).await?;
    if query.is_empty() {
        if taken.is_some() {
            suppression_entries::remove_unread(state, now, now).await?;
            control::clear::<TakenAnswer>(state).await?;
        }
        return Ok(());
    }
    let mut digest = AnswerDigest::default();
    let mut values = SuppressionValues::read(&crm.db, query);
    while let Some(values) = values.next().await.context(FAILED)? {
        _ = digest.read(&values);
    }
    let answer = digest.answer();
    if taken.as_ref() == Some(&answer) {
        return Ok(());
    }
    // A table that is being loaded again holds a part of its rows.
    if taken.as_ref().is_some_and(|taken| answer.usable() * 2 < taken.usable()) {
        warn!(
            values = answer.usable(),
            cure = "if that is right, blank suppression_query for one pass",
            "suppression_query returns less than half of the entries it returned before: all of them stay"
        );
        return Ok(());
    }
    if answer.unreadable > 0 {
        warn!(values = answer.unreadable, "suppression_query returns values that are no address, number or domain");
    }
    let mut written = AnswerDigest::default();
    let mut values = SuppressionValues::read(&crm.db, query);
    while let Some(values) = values.next().await.context(FAILED)? {
        suppression_entries::put_read(state, &written.read(&values), now).await?;
    }
    if written.answer() != answer {
        warn!(
            "the answer of suppression_query has changed while it was read: no entry is removed before the next full compare"
        );
        return Ok(());
    }
    suppression_entries::remove_unread(state, now, now).await?;
    control::write(state, &answer, now).await?;
    Ok(())
}
