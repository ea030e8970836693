//! `[lead]`: checks that the mapping makes leads that Conversica accepts.

use crate::config::merged::origin;
use crate::config::validate::report::ValidationReport;
use crate::config::{FieldRule, ServiceSettings, WhenNull};
use crate::conversica::lead::{LeadKey, ValueKind};
use crate::nearest::nearest;

/// A key of `[lead]` that was derived from a key of `[source]`.
pub struct CompletedKey {
    pub key: LeadKey,
    pub column: String,
    pub from: &'static str,
}

/// Fills in keys that follow from `[source]`: `id` is its key, `clientId` its client.
pub fn complete(settings: &mut ServiceSettings) -> Vec<CompletedKey> {
    let wanted = [
        (LeadKey::Id, Some(settings.source.key.clone()), "source.key"),
        (LeadKey::ClientId, settings.source.client.clone(), "source.client"),
    ];
    let mut completed = Vec::new();
    for (key, column, from) in wanted {
        if let Some(column) = column
            && !settings.lead.published.contains_key(&key)
        {
            settings.lead.published.insert(key, FieldRule::column(column.clone()));
            completed.push(CompletedKey { key, column, from });
        }
    }
    completed
}

pub(super) fn check(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    required(settings, report);
    required_by_account(settings, report);
    expected_names(settings, report);
    identity(settings, report);
    sms(settings, report);
    for (key, rule) in &settings.lead.published {
        if let FieldRule::Column { when_null: WhenNull::Empty, .. } = rule
            && key.kind() != ValueKind::Text
        {
            let name = format!("lead.{key}");
            report.problem(
                &name,
                format!("`{name}` has when_null = \"empty\", but {key} is no text: it cannot be empty"),
                "Remove `when_null`, or give a `default`.",
            );
        }
    }
    custom(report);
}

fn required(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    use LeadKey::{Email, FirstName, LeadSource, RepName};
    let has = |key: LeadKey| settings.lead.published.contains_key(&key);
    for (key, line) in [
        (FirstName, "firstName = \"first_name\""),
        (Email, "email = \"email\""),
        (LeadSource, "leadSource = { column = \"source\", default = \"Website\" }"),
        (RepName, "repName = \"owner_name\""),
    ] {
        if !has(key) {
            let name = format!("lead.{key}");
            report.problem(
                &name,
                format!("`{name}` is not mapped, but Conversica requires it"),
                format!("Add under [lead], with your own column: {line}"),
            );
        }
    }
    if !has(LeadKey::ConversationId) {
        if settings.conversica.require_conversation_id {
            report.problem(
                "lead.conversationId",
                "`lead.conversationId` is not mapped, but Conversica requires it",
                "Add under [lead], with the name that your account manager gave you: conversationId = { value = \"…\" }. Only an \
                 automotive account that goes without it sets require_conversation_id = false under [conversica]",
            );
        } else {
            report.warning(
                "lead.conversationId",
                "`lead.conversationId` is not mapped; Conversica's manual lists it as required. Ask your account \
                 manager or apisupport@conversica.com whether your account can do without, or map it under [lead] and remove \
                 require_conversation_id",
            );
        }
    }
}

/// A key that is never sent would make every lead invalid.
fn required_by_account(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    let lead = &settings.lead;
    let mapped: Vec<&str> =
        lead.published.keys().map(|key| key.name()).chain(lead.custom.keys().map(String::as_str)).collect();
    for name in lead.required.iter().filter(|name| !mapped.contains(&name.as_str())) {
        let question = match nearest(name, mapped.iter().copied()) {
            Some(near) => format!(": did you mean `{near}`?"),
            None => String::new(),
        };
        report.problem(
            "lead.required",
            format!("`lead.required` names `{name}`, which is not mapped under [lead]{question}"),
            "Map it under [lead] or [lead.custom], or remove it from the list.",
        );
    }
}

/// A list of names needs a key to judge, and a name that `[lead]` itself gives should be listed.
fn expected_names(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    let lists = [
        (LeadKey::ConversationId, "conversica.conversations", &settings.conversica.conversations),
        (LeadKey::RepName, "conversica.reps", &settings.conversica.reps),
    ];
    for (key, list, names) in lists {
        if names.is_empty() {
            continue;
        }
        let Some(rule) = settings.lead.published.get(&key) else {
            report.problem(
                list,
                format!("`{list}` has names, but `lead.{key}` is not mapped, so no lead has any of them"),
                format!("Map `{key}` under [lead], or remove the list."),
            );
            continue;
        };
        let given: Vec<&String> = match rule {
            FieldRule::Value(value) => vec![value],
            FieldRule::Column { default, map, .. } => default.iter().chain(map.values()).collect(),
        };
        let is_listed = |name: &str| name.is_empty() || names.iter().any(|listed| listed.trim() == name);
        for name in given.into_iter().map(|name| name.trim()).filter(|name| !is_listed(name)) {
            let question = match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => format!(": did you mean `{near}`?"),
                None => String::new(),
            };
            let what = format!("`lead.{key}` sends `{name}`, which `{list}` does not list{question}");
            match rule {
                FieldRule::Value(_) => {
                    report.problem(&format!("lead.{key}"), what, "Correct the name, or add it to the list.");
                }
                FieldRule::Column { .. } => {
                    report.warning(&format!("lead.{key}"), format!("{what} Leads with it are held"));
                }
            }
        }
    }
    if !settings.safety.new_lead_older_than.is_zero() && !settings.lead.published.contains_key(&LeadKey::Date) {
        report.problem(
            "safety.new_lead_older_than",
            "`safety.new_lead_older_than` is set, but `lead.date` is not mapped, so the age of no lead is known",
            "Add under [lead], with your own column: date = \"created_at\"",
        );
    }
    if settings.safety.canary_leads > 0 && settings.receive.is_none() {
        report.warning(
            "safety.canary_leads",
            "`safety.canary_leads` is set, but without [receive] no sign of life arrives: its leads wait for `approve`",
        );
    }
}

/// Conversica updates by `id`, and the state stores a lead by `source.key` and `source.client`: another column, a default or a
/// translation would let two rows become one lead.
fn identity(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    let pairs = [
        (LeadKey::Id, Some(&settings.source.key), "source.key"),
        (LeadKey::ClientId, settings.source.client.as_ref(), "source.client"),
    ];
    for (key, column, from) in pairs {
        let (Some(rule), Some(column)) = (settings.lead.published.get(&key), column) else { continue };
        if *rule != FieldRule::column(column) && !report.is_spoiled(from) {
            let name = format!("lead.{key}");
            report.problem(
                &name,
                format!("`{name}` differs from `{from}`, which is `{column}`; both must be the same column"),
                format!("Remove `{key}` from [lead] (it follows from `{from}`), or change `{from}`."),
            );
        }
    }
}

fn sms(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    if !settings.conversica.sms {
        return;
    }
    let has = |key: LeadKey| settings.lead.published.contains_key(&key);
    if !has(LeadKey::CellPhone) {
        report.problem(
            "lead.cellPhone",
            "`conversica.sms` is true, but `lead.cellPhone` is not mapped",
            "Add under [lead], with your own column: cellPhone = \"mobile\"",
        );
    }
    if !has(LeadKey::SmsOptIn) && !has(LeadKey::SmsOptOut) && !report.is_spoiled("lead.smsOptOut") {
        report.problem(
            "lead.smsOptIn",
            "`conversica.sms` is true, but neither `lead.smsOptIn` nor `lead.smsOptOut` is mapped",
            "Add under [lead], with your own column: smsOptIn = \"sms_consent\"",
        );
    }
}

fn custom(report: &mut ValidationReport<'_>) {
    let keys: Vec<(String, String)> = report
        .merged
        .custom()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), origin(value).unwrap_or_default()))
        .collect();
    for (name, place) in keys {
        if LeadKey::from_name(&name).is_some() {
            report.problems.add(
                &place,
                format!("`lead.custom.{name}` is a published key"),
                format!("Move the line for `{name}` to [lead]."),
            );
        } else if name == "apiVersion" {
            report.problems.add(
                &place,
                "`lead.custom.apiVersion` cannot be mapped: it comes from `conversica.api_version`",
                "Remove the line; set `api_version` under [conversica] if the default does not fit.",
            );
        } else if name.trim().is_empty() {
            report.problems.add(&place, "a key of [lead.custom] has no name", "Name it as agreed with Conversica.");
        }
    }
}
