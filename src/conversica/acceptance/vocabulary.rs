//! The words by which answers say yes and no, and the names of the keys under which they say it. Pure.

/// Words by which a status, or a plain text, says that the lead was not accepted.
const REFUSALS: [&str; 53] = [
    "banned",
    "blocked",
    "cannot",
    "couldn",
    "declined",
    "denied",
    "disabled",
    "discarded",
    "dropped",
    "err",
    "erro",
    "error",
    "errors",
    "exceeded",
    "exception",
    "expired",
    "fail",
    "failed",
    "failing",
    "failure",
    "fatal",
    "fehler",
    "forbidden",
    "ignored",
    "incorrect",
    "invalid",
    "ko",
    "locked",
    "missing",
    "mistake",
    "nack",
    "nok",
    "problem",
    "quota",
    "refused",
    "rejected",
    "skipped",
    "suspended",
    "throttled",
    "unable",
    "unauthenticated",
    "unauthorised",
    "unauthorized",
    "unavailable",
    "undefined",
    "unexpected",
    "unknown",
    "unprocessable",
    "unrecognised",
    "unrecognized",
    "unsuccessful",
    "unsupported",
    "wrong",
];
/// Words of [`REFUSALS`] that also occur in sentences without a refusal ("The error queue is empty"). They count at the beginning
/// of a sentence.
pub(super) const REFUSALS_AT_THE_START: [&str; 17] = [
    "err",
    "erro",
    "error",
    "errors",
    "exception",
    "fehler",
    "incorrect",
    "ko",
    "missing",
    "mistake",
    "nack",
    "nok",
    "quota",
    "unavailable",
    "undefined",
    "unexpected",
    "unknown",
];
/// Words by which a sentence says that the lead was accepted.
pub(super) const ACCEPTANCES: [&str; 14] = [
    "accepted",
    "added",
    "created",
    "imported",
    "inserted",
    "ok",
    "processed",
    "queued",
    "saved",
    "stored",
    "success",
    "successful",
    "successfully",
    "updated",
];
/// Keys whose value is a sentence about the outcome.
pub(super) const MESSAGES: [&str; 13] = [
    "description",
    "detail",
    "details",
    "faultstring",
    "info",
    "message",
    "messages",
    "msg",
    "reason",
    "statusdescription",
    "statusmessage",
    "text",
    "title",
];
/// Pairs of words that together say that the lead was not accepted.
const REFUSALS_OF_TWO: [[&str; 2]; 22] = [
    ["bad", "request"],
    ["can", "not"],
    ["could", "not"],
    ["did", "not"],
    ["no", "such"],
    ["not", "accepted"],
    ["not", "allowed"],
    ["not", "authenticated"],
    ["not", "authorized"],
    ["not", "created"],
    ["not", "found"],
    ["not", "ok"],
    ["not", "permitted"],
    ["not", "processed"],
    ["not", "saved"],
    ["not", "stored"],
    ["not", "successful"],
    ["not", "valid"],
    ["timed", "out"],
    ["too", "many"],
    ["limit", "reached"],
    ["slow", "down"],
];
/// Texts of answers that report a wrong user name or password, in lower case.
pub(super) const CREDENTIALS: [&str; 8] = [
    "account being locked",
    "authentication failed",
    "authentication required",
    "bad credentials",
    "failed attempts",
    "invalid credentials",
    "not authenticated",
    "username or password",
];
/// What a sentence speaks of that refuses the account, in lower case.
pub(super) const CREDENTIAL_NAMES: [&str; 8] =
    ["api key", "apikey", "credential", "login", "logon", "passphrase", "password", "your ip address"];
/// Two words with which a sentence asks for something else than what was sent.
pub(super) const DEMANDS: [[&str; 2]; 6] =
    [["are", "required"], ["is", "required"], ["must", "be"], ["must", "have"], ["try", "again"], ["went", "wrong"]];
/// Words behind a "not" or a first "no" that denies no acceptance: "not changed", "no errors".
pub(super) const HARMLESS_DENIALS: [&str; 31] = [
    "action",
    "before",
    "blocked",
    "change",
    "changed",
    "changes",
    "difference",
    "differences",
    "duplicate",
    "duplicates",
    "error",
    "errors",
    "failed",
    "failures",
    "invalid",
    "issue",
    "issues",
    "known",
    "locked",
    "matched",
    "modified",
    "need",
    "needed",
    "new",
    "news",
    "previously",
    "problem",
    "problems",
    "rejected",
    "update",
    "warnings",
];
/// Words of a status that is not that of a lead which was taken.
pub(super) const STATUS_REFUSALS: [&str; 8] =
    ["deleted", "down", "duplicate", "expired", "inactive", "maintenance", "quarantined", "suspended"];
/// Parts of keys and addresses of a login wall, in lower case.
pub(super) const LOGIN_WORDS: [&str; 7] = ["auth", "login", "logon", "password", "session", "signin", "sign-in"];
/// Keys whose number is 0 where nothing failed.
pub(super) const CODES: [&str; 6] = ["code", "errno", "rc", "resultcode", "retcode", "returncode"];
/// Keys that count leads which were taken.
pub(super) const TAKEN: [&str; 12] = [
    "accepted",
    "added",
    "count",
    "created",
    "imported",
    "inserted",
    "processed",
    "saved",
    "stored",
    "updated",
    "upserted",
    "written",
];
/// Words beside "none" or "0" where there was no error.
pub(super) const BESIDE_NO_ERRORS: [&str; 16] = [
    "any", "detected", "error", "errors", "failure", "failures", "found", "issues", "occurred", "occured", "problems",
    "reported", "to", "report", "warnings", "were",
];
/// Texts of gateways, proxies and login walls in Conversica's place, in lower case.
pub(super) const GATEWAYS: [&str; 21] = [
    "back soon",
    "bad gateway",
    "default backend",
    "down for maintenance",
    "gateway timeout",
    "guru meditation",
    "index of /",
    "it works!",
    "log in required",
    "log in to",
    "login required",
    "no healthy upstream",
    "please log in",
    "please login",
    "please sign in",
    "requested url was rejected",
    "service unavailable",
    "under maintenance",
    "upstream connect error",
    "upstream request timeout",
    "welcome to nginx",
];
/// Media types that no API answers with.
pub(super) const MEDIA_OF_PAGES: [&str; 7] = [
    "application/javascript",
    "application/pdf",
    "application/xhtml+xml",
    "application/x-javascript",
    "text/css",
    "text/html",
    "text/javascript",
];
/// Kinds of media that no API answers with.
pub(super) const MEDIA_KINDS_OF_PAGES: [&str; 4] = ["audio/", "font/", "image/", "video/"];
/// Words that negate the next word: "no error".
pub(super) const NEGATIONS: [&str; 7] = ["0", "never", "no", "non", "not", "t", "without"];
/// Values of a key such as `error` that report no error.
pub(super) const NO_ERRORS: [&str; 9] = ["", "0", "false", "n/a", "no", "none", "null", "ok", "success"];
/// Values of a key such as `success` that report no success.
pub(super) const NO_SUCCESS: [&str; 5] = ["0", "f", "false", "n", "no"];
/// Short texts that a server sends as HTML although they are no page.
pub(super) const SHORT_YES: [&str; 11] = [
    "1",
    "accepted",
    "created",
    "lead accepted",
    "lead received",
    "ok",
    "received",
    "success",
    "thank you",
    "thanks",
    "true",
];
/// Parts of a page that may follow other text.
pub(super) const PAGE_PARTS: [&str; 7] = ["<!doctype", "<html", "<head", "<body", "<iframe", "<form", "<script"];
/// Objects that repeat the request: a CRM's status may be "Rejected".
pub(super) const ECHOES: [&str; 10] =
    ["contact", "contacts", "input", "lead", "leads", "person", "record", "records", "request", "requests"];
/// Objects whose meaning counts even below a yes: the request may be fine, and its one lead not.
pub(super) const RESULTS: [&str; 8] =
    ["meta", "outcome", "outcomes", "response", "responses", "result", "results", "status"];
/// `is_success`, `isSuccess` and `Is-Success` are one key.
pub(super) fn plain_key(key: &str) -> String {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

pub(super) fn names_status(key: &str) -> bool {
    ["responsestatus", "status", "statuscode", "statustext", "httpstatus", "httpstatuscode", "httpcode", "responsecode"]
        .contains(&key)
}

pub(super) fn names_success(key: &str) -> bool {
    ["success", "successful", "succeeded", "issuccess", "issuccessful", "ok", "isok", "accepted", "isaccepted"]
        .contains(&key)
}

/// Keys that count: false or 0 under them says that the lead was not accepted.
pub(super) fn names_stored(key: &str) -> bool {
    [
        "acceptedcount",
        "authenticated",
        "authorized",
        "isauthenticated",
        "isauthorized",
        "isvalid",
        "processed",
        "saved",
        "stored",
        "successcount",
        "valid",
    ]
    .contains(&key)
}

/// "errors", "hasErrors", "error_message", "validationErrors", "failureCount"; not "errorPage", "noErrors".
pub(super) fn names_errors(key: &str) -> bool {
    const ERRORS: [&str; 24] = [
        "err",
        "errcode",
        "errmsg",
        "error",
        "errorcode",
        "errorcount",
        "errormessage",
        "errormsg",
        "errors",
        "exception",
        "exceptions",
        "failed",
        "failure",
        "failures",
        "fault",
        "faults",
        "invalid",
        "problem",
        "problems",
        "rejected",
        "rejection",
        "rejections",
        "violation",
        "violations",
    ];
    const BESIDE: [&str; 30] = [
        "code",
        "codes",
        "count",
        "data",
        "description",
        "detail",
        "details",
        "entries",
        "field",
        "fields",
        "has",
        "input",
        "is",
        "items",
        "last",
        "lead",
        "leads",
        "message",
        "messages",
        "msg",
        "number",
        "of",
        "reason",
        "record",
        "records",
        "text",
        "total",
        "type",
        "validation",
        "value",
    ];
    let words = words(key);
    words.iter().any(|word| ERRORS.contains(&word.as_str()))
        && words.iter().all(|word| ERRORS.contains(&word.as_str()) || BESIDE.contains(&word.as_str()))
}

/// "error", "FAILED", "ValidationError", "not accepted"; not "no_errors".
pub(super) fn word_refuses(text: &str) -> bool {
    words_refuse(&words(text), |_| true)
}

pub(super) fn words_refuse(words: &[String], counts: impl Fn(&str) -> bool) -> bool {
    let before = |at: usize| at.checked_sub(1).map(|before| words[before].as_str());
    let one = words.iter().enumerate().any(|(at, word)| {
        REFUSALS.contains(&word.as_str())
            && counts(word)
            && !before(at).is_some_and(|before| NEGATIONS.contains(&before))
    });
    one || words.windows(2).any(|pair| REFUSALS_OF_TWO.iter().any(|two| *two == [pair[0].as_str(), &pair[1]]))
}

/// The first words, in lower case. Words end at characters other than letters, and before capitals within a text.
pub(super) fn words(text: &str) -> Vec<String> {
    const ENOUGH: usize = 24;
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in text.chars() {
        let begins = c.is_uppercase() && was_small;
        was_small = c.is_lowercase();
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("starts with one word").extend(c.to_lowercase());
        } else if words.len() > ENOUGH {
            break;
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
