//! One made-up lead, sent with the Test Lead Token: it tests the whole path to Conversica before a real person is contacted.
//!
//! It follows the same rules as every other request: a halt forbids it, a refusal halts, a first acceptance counts, and the
//! journal records it. It is no lead of the CRM and has no row in the lead table.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::client::{ConversicaClient, RequestAttempt};
use crate::config::{FieldRule, ServiceSettings};
use crate::conversica::lead::{ContentFingerprint, LeadId, LeadKey};
use crate::conversica::outcome::OutcomeClass;
use crate::error::SetupError;
use crate::rules::lead_claim::FinishedAttempt;
use crate::rules::retry::NextStep;
use crate::send::account;
use crate::store::control::{self, StoredHalt, TestLeadSent, VerifiedAccount};
use crate::store::state_db::StateDb;
use crate::store::writer::OtherSenders;
use crate::store::{due, outcome};

/// Always the same id, so a retry updates one test lead and uses up no further one.
pub const ID: &str = "conversica-sync-test-lead";
/// Reserved for examples: mail to this address reaches no person.
pub const EMAIL: &str = "conversica-sync-test@example.com";

/// Why it was not sent, or Conversica's answer.
#[derive(Debug)]
pub enum TestLeadOutcome {
    Halted(StoredHalt),
    Answered(RequestAttempt),
}

/// Sends the test lead to `email`.
///
/// # Errors
/// [`SetupError`] where there is no token, or no test lead is left; the database's.
pub async fn send(
    state: &StateDb,
    company: OtherSenders,
    settings: &ServiceSettings,
    email: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<TestLeadOutcome> {
    let Some(token) = &settings.conversica.test_lead_token else {
        return Err(SetupError::new(
            "[conversica] test_lead_token is not set",
            "set test_lead_token_file to the Test Lead Token that your Conversica account manager gave you",
        )
        .into());
    };
    let account = account::fingerprint(state, &settings.conversica, now).await?;
    if let Some(halt) = control::read::<StoredHalt>(state).await?.filter(|halt| halt.account == account) {
        return Ok(TestLeadOutcome::Halted(halt));
    }
    let verified = control::read::<VerifiedAccount>(state).await?.is_some_and(|verified| verified.account == account);
    if company == OtherSenders::Shared && !verified {
        return Err(SetupError::new(
            "another instance sends from this state, and these credentials have never been accepted",
            "stop the other instances first, so that a wrong password costs one refusal and not two",
        )
        .into());
    }
    let limit = settings.conversica.test_lead_limit;
    let sent_before = control::read::<TestLeadSent>(state).await?.is_some();
    if !sent_before && due::test_leads_left(state, limit).await? == 0 {
        return Err(SetupError::new(
            format!("all of the {limit} test leads have been used"),
            "ask Conversica for more, and raise [conversica] test_lead_limit",
        )
        .into());
    }
    control::write(state, &TestLeadSent { at: now }, now).await?;
    let body = body(settings, token, email);
    let sent_hash = ContentFingerprint::of(body.as_bytes()).as_bytes().to_vec();
    let attempt = ConversicaClient::new(&settings.conversica, settings.delivery.timeout, 1)?.post(body, now).await;
    write_down(state, &attempt, account, sent_hash, now).await?;
    Ok(TestLeadOutcome::Answered(attempt))
}

/// Records the consequences before the attempt: after a crash between the two, a halt is still in force.
async fn write_down(
    state: &StateDb,
    attempt: &RequestAttempt,
    account: String,
    sent_hash: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if let Some(reason) = attempt.halt {
        let halt = StoredHalt { reason, since: now, detail: attempt.detail.clone(), account };
        control::write(state, &halt, now).await?;
        control::clear::<VerifiedAccount>(state).await?;
    } else if attempt.class == OutcomeClass::Accepted {
        control::write(state, &VerifiedAccount { account }, now).await?;
    }
    let finished = FinishedAttempt {
        lead: LeadId { id: ID.to_owned(), client_id: String::new() },
        claimed_at: now,
        attempt: 1,
        class: attempt.class,
        http_status: attempt.http_status,
        detail: attempt.detail.clone(),
        duration: Some(attempt.duration),
        at: now,
        sent_hash,
        next: NextStep::Done,
    };
    outcome::record_test(state, &finished).await
}

/// The Lead object: required keys, values that are the same for every lead, and the token as the last name.
fn body(settings: &ServiceSettings, token: &SecretString, email: &str) -> String {
    let mut body = json!({ "apiVersion": settings.conversica.api_version, "id": ID });
    let constant = |key: LeadKey| match settings.lead.published.get(&key) {
        Some(FieldRule::Value(value)) => Some(value.clone()),
        Some(FieldRule::Column { default, .. }) => default.clone(),
        None => None,
    };
    if settings.source.client.is_some() {
        body["clientId"] = json!(ID);
    }
    if let Some(conversation) = constant(LeadKey::ConversationId) {
        body["conversationId"] = json!(conversation);
    }
    body["firstName"] = json!("Test");
    body["lastName"] = json!(token.expose_secret());
    body["email"] = json!(email);
    body["leadSource"] = json!(constant(LeadKey::LeadSource).unwrap_or_else(|| "conversica-sync".to_owned()));
    body["repName"] = json!(constant(LeadKey::RepName).unwrap_or_else(|| "conversica-sync".to_owned()));
    if settings.conversica.sms {
        // A phone number reserved for fiction, which must get no messages.
        body["cellPhone"] = json!("+12025550100");
        body["smsOptOut"] = json!(true);
    }
    body.to_string()
}
