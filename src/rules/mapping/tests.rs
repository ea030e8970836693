//! Tests of rows and the Lead objects that they make.

use proptest::prelude::*;

use super::*;
use crate::config::{self, ProcessEnvironment};
use crate::rules::value_fault::{MAX_CHARS, NOT_A_NUMBER, NOT_SCALAR};

const CONFIG: &str = r#"
    [source]
    url = "sqlite://crm.db"
    table = "leads"
    key = "id"
    [lead]
    firstName = "first"
    email = "mail"
    leadSource = { column = "source", default = "Website" }
    leadStatus = { column = "status", map = { "1" = "New", "2" = "Sold" } }
    repName = { value = "Robin Roe" }
    optOut = "dnc"
    date = "created"
    [lead.custom]
    dealerGroup = "group"
    [conversica]
    require_conversation_id = false
    username = "sandbox"
    password = "sandbox"
"#;

fn mapping() -> LeadMapping {
    mapping_by(CONFIG)
}

fn mapping_by(config: &str) -> LeadMapping {
    let loaded =
        config::layers::load_text("test.toml", config, &ProcessEnvironment::default()).expect("valid settings");
    LeadMapping::new(&loaded.settings)
}

/// Columns in the order of the Lead keys that use them: first, mail, source, status, dnc, created, group.
fn row(cells: [Option<&str>; 7]) -> SourceRow {
    SourceRow { key: Some("7".into()), client: None, cells: cells.iter().map(|c| c.map(str::to_owned)).collect() }
}

fn mapped(cells: [Option<&str>; 7]) -> Result<String, Vec<String>> {
    mapping().map(&row(cells)).desired
}

const GOOD: [Option<&str>; 7] = [
    Some("Ann"),
    Some("ann@example.com"),
    Some("Fair"),
    Some("1"),
    Some("N"),
    Some("2026-01-02 03:04:05"),
    Some("North"),
];

#[test]
fn a_good_row_becomes_the_canonical_lead() {
    assert_eq!(
        mapped(GOOD).unwrap(),
        r#"{"apiVersion":"7.2","id":"7","firstName":"Ann","email":"ann@example.com","leadSource":"Fair","leadStatus":"New","optOut":false,"repName":"Robin Roe","date":"2026-01-02T03:04:05+00:00","dealerGroup":"North"}"#
    );
}

#[test]
fn blank_and_null_values_are_left_out_and_defaults_stand_in() {
    let mut cells = GOOD;
    (cells[2], cells[3], cells[4], cells[5], cells[6]) = (Some("  "), None, None, Some(""), None);
    assert_eq!(
        mapped(cells).unwrap(),
        r#"{"apiVersion":"7.2","id":"7","firstName":"Ann","email":"ann@example.com","leadSource":"Website","repName":"Robin Roe"}"#
    );
}

#[test]
fn a_faulty_row_names_every_reason_at_once() {
    let row =
        row([None, Some("ann at example"), Some(NOT_SCALAR), Some("9"), Some("perhaps"), Some("2026-13-01"), None]);
    let mapped = mapping().map(&row);
    let reasons = mapped.desired.unwrap_err();
    let keys: Vec<_> = reasons.iter().map(|reason| reason.split(':').next().unwrap()).collect();
    assert_eq!(keys, ["email", "leadSource", "leadStatus", "optOut", "firstName"], "{reasons:?}");
    assert_eq!(mapped.notes, Vec::<String>::new(), "notes are of leads that are sent");
}

#[test]
fn an_optional_value_of_no_use_is_left_out_or_cleaned_and_the_lead_is_sent() {
    for (created, group, keys, note) in [
        (Some("0000-00-00"), Some("North"), r#""dealerGroup":"North""#, "date: left out, because it is not a date"),
        (Some("infinity"), None, "", "date: left out, because it is not a date"),
        (None, Some(NOT_SCALAR), "", "dealerGroup: left out, because it is a JSON object"),
        (None, Some(NOT_A_NUMBER), "", "dealerGroup: left out, because it is NaN or infinity"),
        (None, Some("North\r\nEast"), r#""dealerGroup":"North East""#, "dealerGroup: line breaks became blanks"),
        (None, Some("a\u{7}b"), r#""dealerGroup":"ab""#, "dealerGroup: control characters were left out"),
        (None, Some("\u{7}"), "", "dealerGroup: control characters were left out"),
    ] {
        let mut cells = GOOD;
        (cells[5], cells[6]) = (created, group);
        let mapped = mapping().map(&row(cells));
        let body = mapped.desired.expect("a valid lead");
        let end = if keys.is_empty() { r#""repName":"Robin Roe"}"#.to_owned() } else { format!("{keys}}}") };
        assert!(body.ends_with(&end), "{body}");
        assert!(mapped.notes.len() == 1 && mapped.notes[0].starts_with(note), "{:?}", mapped.notes);
        assert!(mapped.notes[0].contains("(column \""), "{:?}", mapped.notes);
    }
    let long = "x".repeat(MAX_CHARS + 1);
    let mut cells = GOOD;
    cells[6] = Some(&long);
    let mapped = mapping().map(&row(cells));
    assert!(mapped.desired.is_ok() && mapped.notes[0].contains("left out, because it is longer"), "{:?}", mapped.notes);
}

#[test]
fn what_is_required_is_cleaned_too_and_never_left_out() {
    let mut cells = GOOD;
    (cells[0], cells[2]) = (Some("Ann\tLee"), Some("Fair\n2026"));
    let mapped = mapping().map(&row(cells));
    let body = mapped.desired.expect("a valid lead");
    assert!(body.contains(r#""firstName":"Ann Lee""#) && body.contains(r#""leadSource":"Fair 2026""#), "{body}");
    assert_eq!(mapped.notes.len(), 2);
    for (index, value) in
        [(0, "\u{7}"), (1, "a\u{0}nn@example.com"), (2, NOT_SCALAR), (4, "0000-00-00"), (6, "M\u{fffd}")]
    {
        let mut cells = GOOD;
        cells[index] = Some(value);
        let mapped = mapping().map(&row(cells));
        assert!(mapped.desired.is_err() && mapped.notes.is_empty(), "{index}: {mapped:?}");
    }
}

#[test]
fn a_lead_without_a_key_that_the_account_requires_is_invalid() {
    let required = r#"[lead]
        required = ["email", "dealerGroup", "date"]"#;
    let mapping = mapping_by(&CONFIG.replace("[lead]", required));
    assert_eq!(mapping.map(&row(GOOD)).desired, mapped(GOOD));
    for (date, group, reasons) in [
        (None, Some("North"), vec!["date: is required by `required` in [lead], but blank (column \"created\")"]),
        (GOOD[5], Some(" "), vec!["dealerGroup: is required by `required` in [lead], but blank (column \"group\")"]),
        (Some("soon"), Some("\u{7}"), vec!["date: is not a date", "dealerGroup: is required"]),
    ] {
        let mut cells = GOOD;
        (cells[5], cells[6]) = (date, group);
        let found = mapping.map(&row(cells)).desired.unwrap_err();
        assert_eq!(found.len(), reasons.len(), "{found:?}");
        assert!(found.iter().zip(&reasons).all(|(found, wanted)| found.starts_with(wanted)), "{found:?}");
    }
    let mut cells = GOOD;
    cells[1] = None;
    assert_eq!(mapping.map(&row(cells)).desired.unwrap_err().len(), 1, "the manual requires it as well");
}

#[test]
fn reasons_never_quote_what_the_row_says() {
    let reasons =
        mapped([Some("S3cret\n"), Some("s3cret"), None, Some("s3cret"), Some("s3cret"), Some("s3cret"), None]);
    assert!(!format!("{reasons:?}").to_lowercase().contains("s3cret"));
}

#[test]
fn values_are_escaped_as_json() {
    let mut cells = GOOD;
    cells[0] = Some("An\"n \\ O\u{2028}é");
    let body: serde_json::Value = serde_json::from_str(&mapped(cells).unwrap()).unwrap();
    assert_eq!(body["firstName"], "An\"n \\ O\u{2028}é");
}

proptest! {
    #[test]
    fn whatever_a_row_holds_the_result_is_json_or_reasons(cells in proptest::collection::vec(proptest::option::of(".{0,30}"), 7)) {
        let row = SourceRow { key: Some("7".into()), client: None, cells };
        match mapping().map(&row).desired {
            Ok(body) => { serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&body).unwrap(); }
            Err(reasons) => prop_assert!(!reasons.is_empty()),
        }
    }

    #[test]
    fn the_same_row_always_has_the_same_fingerprint(name in "[a-zA-Z ]{1,20}") {
        let mut cells = GOOD.map(|c| c.map(str::to_owned)).to_vec();
        cells[0] = Some(format!("x{name}"));
        let row = SourceRow { key: Some("7".into()), client: None, cells };
        prop_assert_eq!(mapping().map(&row).fingerprint(), mapping().map(&row.clone()).fingerprint());
    }
}
