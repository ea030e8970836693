//! Tests of the answers that count as an acceptance, as a rejection and as a page: a table, and properties of any answer.

use proptest::prelude::*;

use super::AnswerVerdict::{Accepted, CredentialsRefused, Rejected, WebPage};
use super::*;
use crate::conversica::content::read_body;

fn judged(content_type: &str, body: &str) -> AnswerVerdict {
    judge_answer(Some(content_type), &AnswerText::Text(body.to_owned()), SENT)
}

/// The Lead object that was answered; `note` is a field of the CRM's own.
const SENT: &str = r#"{"id":"7","firstName":"Al","leadStatus":"Rejected","note":"Please log in, wrong password","state":"KO","title":"Failure Analysis Engineer","description":"My car failed inspection"}"#;

#[track_caller]
fn every(verdict: AnswerVerdict, content_type: &str, bodies: &[&str]) {
    let wrong: Vec<&&str> = bodies.iter().filter(|body| judged(content_type, body) != verdict).collect();
    assert!(wrong.is_empty(), "{content_type}, not {verdict:?}: {wrong:#?}");
}

/// Answers that say yes, or nothing against it.
const ACCEPTANCES: [&str; 80] = [
    "",
    " \r\n",
    "{}",
    "[]",
    "null",
    "true",
    "1",
    "48213",
    "\"OK\"",
    "\"accepted\"",
    r#"{"status":true}"#,
    r#"{"message": "Lead accepted", "status": true}"#,
    r#"{"message":"","status":true}"#,
    r#"{"status":"200","message":"ok"}"#,
    r#"{"status":200}"#,
    r#"{"status":"OK"}"#,
    r#"{"status":"success"}"#,
    r#"{"status":"queued"}"#,
    r#"{"status":null}"#,
    r#"{"status":1}"#,
    r#"{"success":true}"#,
    r#"{"success":"true","error":null}"#,
    r#"{"ok":1,"error":"","errors":[]}"#,
    r#"{"error":false}"#,
    r#"{"error":0,"errors":{}}"#,
    r#"{"errors":[null,"",{}]}"#,
    r#"{"error":"none"}"#,
    r#"{"error":{"code":0,"message":""}}"#,
    r#"{"error":{"status":false}}"#,
    r#"{"errorCode":"0000","errorMessage":"Success"}"#,
    r#"{"hasErrors":false,"results":[{"success":true,"errors":[]}]}"#,
    r#"{"accepted":1,"rejected":0,"failed":[]}"#,
    r#"{"message":"The error queue is empty"}"#,
    r#"{"status":"no_errors"}"#,
    r#"{"code":0}"#,
    r#"{"status":true,"data":{"id":"7","status":"Rejected"}}"#,
    r#"{"status":true,"lead":{"id":"7","leadStatus":"Failed","status":404}}"#,
    r#"{"message":"Thanks","lead":{"id":"7","status":"Denied","type":"error"}}"#,
    r#"{"id":"7","firstName":"Al","lastName":"Error","leadStatus":"Invalid","address":"400 Elm St"}"#,
    r#"{"status":true,"message":"<b>saved</b>"}"#,
    "OK",
    "Lead 7 received, no errors.",
    r#"{"message":"Lead accepted. 0 failed, 0 skipped."}"#,
    r#"{"message":"Your lead was saved"}"#,
    r#"{"success":true,"message":"An earlier try was rejected"}"#,
    r#"{"received":1,"saved":1,"skipped":0}"#,
    r#"{"status":true,"errorPage":"https://example.com/errors"}"#,
    r#"{"noErrors":true}"#,
    r#"{"state":"OK","id":"7"}"#,
    r#"{"returnCode":"0"}"#,
    r#"{"status":"pending","message":"The lead will be processed"}"#,
    "{\"event\":\"start\"}\n{\"status\":true}",
    "{'status': True, 'error': None}",
    "[[[[[[[[",
    "{\"a",
    r#"{"errors":"none found"}"#,
    r#"{"errors":"[]"}"#,
    r#"{"error":"0 errors"}"#,
    r#"{"errors":"No problems were found"}"#,
    r#"{"status":0,"message":"OK"}"#,
    r#"{"status":0,"message":"Lead saved"}"#,
    r#"{"success":true,"message":"Duplicate lead ignored"}"#,
    r#"{"success":true,"duplicate":true,"created":false}"#,
    r#"{"success":true,"updated":0}"#,
    r#"{"created":false,"updated":true}"#,
    r#"{"message":"Lead was not previously known; added"}"#,
    r#"{"message":"Lead was not changed"}"#,
    r#"{"message":"No change"}"#,
    r#"{"message":"Not a duplicate"}"#,
    r#"{"message":"No action is required"}"#,
    r#"{"status":"unchanged"}"#,
    r#"{"status":"Not blocked"}"#,
    r#"{"state":"IN_PROGRESS"}"#,
    r#"{"status":true,"code":1000}"#,
    r#"{"status":true,"redirect":"/thanks"}"#,
    r#"{"location":"/leads/7"}"#,
    r#"{"code":"0000"}"#,
    r#"{"id":"7","note":"Please log in, wrong password"}"#,
    r#"{"id":"7","state":"KO","title":"Failure Analysis Engineer"}"#,
    r#"{"id":"7","description":"My car failed inspection","leadStatus":"Rejected"}"#,
];

const REJECTIONS: [&str; 137] = [
    r#"{"message":"Lead could not be saved","status":false}"#,
    r#"{"status":"false"}"#,
    r#"{"status":"False"}"#,
    r#"{"status":0}"#,
    r#"{"status":-1}"#,
    r#"{"status":"error"}"#,
    r#"{"STATUS":"ERROR"}"#,
    r#"{"status":"err"}"#,
    r#"{"status":"failed"}"#,
    r#"{"status":"FAIL"}"#,
    r#"{"status":"failure"}"#,
    r#"{"status":"rejected"}"#,
    r#"{"status":"invalid"}"#,
    r#"{"status":"Validation_Error"}"#,
    r#"{"status":"ValidationError"}"#,
    r#"{"status":"BadRequest"}"#,
    r#"{"status":"not ok"}"#,
    r#"{"status":400}"#,
    r#"{"status":422.0}"#,
    r#"{"status":"400"}"#,
    r#"{"status":"500"}"#,
    r#"{"status":"429"}"#,
    r#"{"status":"401 Unauthorized"}"#,
    r#"{"status":"HTTP/1.1 503 Service Unavailable"}"#,
    r#"{"statusCode":404,"message":"no such list"}"#,
    r#"{"status_code":"404"}"#,
    r#"{"httpStatus":500}"#,
    r#"{"success":false}"#,
    r#"{"success":"false"}"#,
    r#"{"success":0}"#,
    r#"{"Success":false,"Message":"no"}"#,
    r#"{"is_success":false}"#,
    r#"{"isSuccess":"no"}"#,
    r#"{"ok":false,"error":"invalid_auth"}"#,
    r#"{"accepted":false}"#,
    r#"{"accepted":0,"rejected":1}"#,
    r#"{"result":"error"}"#,
    r#"{"result":"failure"}"#,
    r#"{"result":false}"#,
    r#"{"outcome":"failure","reason":"duplicate"}"#,
    r#"{"code":400,"message":"no"}"#,
    r#"{"type":"error","message":"no"}"#,
    r#"{"error":"Missing required field: email"}"#,
    r#"{"error":true}"#,
    r#"{"error":1}"#,
    r#"{"error":{"message":"no such list"}}"#,
    r#"{"error":{"errors":[{"reason":"bad"}],"code":403}}"#,
    r#"{"errors":["no such lead"]}"#,
    r#"{"errors":{"email":["is invalid"]}}"#,
    r#"{"errors":[{"code":"bad"}]}"#,
    r#"{"error_code":17}"#,
    r#"{"errorMessage":"Task timed out after 3.00 seconds"}"#,
    r#"{"exception":"NullPointer"}"#,
    r#"{"fault":{"faultstring":"Invalid ApiKey"}}"#,
    r#"{"hasErrors":true}"#,
    r#"{"status":true,"errors":["no such list"]}"#,
    r#"{"status":true,"status":false}"#,
    r#"{"response":{"status":false}}"#,
    r#"{"data":{"success":false}}"#,
    r#"{"data":{"status":"error"}}"#,
    r#"{"meta":{"code":400}}"#,
    r#"{"status":{"code":400,"text":"no"}}"#,
    r#"{"success":true,"results":[{"status":"rejected"}]}"#,
    r#"{"status":true,"lead":{"id":"7","errors":["bad address"]}}"#,
    r#"[{"status":false}]"#,
    r#"[{"message":"no","errorCode":"INVALID_FIELD"}]"#,
    r#"false"#,
    r#""error""#,
    r#""{\"status\":false}""#,
    r#"{"status":false,"lead":{"id":"7","na"#,
    r#"{"message":"Lead could not be saved"}"#,
    r#"{"message":"Unauthorized"}"#,
    r#"{"Message":"User is not authorized to access this resource"}"#,
    r#"{"message":"Too many requests"}"#,
    r#"{"status":"ignored"}"#,
    r#"{"status":"skipped"}"#,
    r#"{"status":"not processed"}"#,
    r#"{"status":"throttled"}"#,
    r#"{"status":"warning","message":"lead ignored"}"#,
    r#"{"status":{"code":"ERROR"}}"#,
    r#"{"statusCode":"E1001","error_message":"x"}"#,
    r#"{"state":"ERROR"}"#,
    r#"{"ack":"Failure"}"#,
    r#"{"code":"INVALID_LEAD","message":"x"}"#,
    r#"{"code":-1,"msg":"denied"}"#,
    r#"{"returnCode":"401"}"#,
    r#"{"success":"N"}"#,
    r#"{"saved":false}"#,
    r#"{"received":1,"saved":0,"skipped":1}"#,
    r#"{"valid":false}"#,
    r#"{"processed":false}"#,
    r#"{"authenticated":false}"#,
    r#"{"total":1,"successCount":0,"failureCount":1}"#,
    r#"{"validation_errors":[{"field":"email"}]}"#,
    r#"{"validationErrors":["email"]}"#,
    r#"{"invalidFields":["email"]}"#,
    r#"{"lead":null,"message":"Contact list not found"}"#,
    r#"{"data":{"result":{"items":[{"entry":{"status":false}}]}}}"#,
    "{\"event\":\"start\"}\n{\"status\":false}",
    r#"{"message":"Unauthorised"}"#,
    r#"{"message":"Rate limit reached"}"#,
    r#"{"message":"Slow down"}"#,
    r#"{"message":"Quota reached"}"#,
    r#"{"message":"Please try again later"}"#,
    r#"{"message":"Something went wrong"}"#,
    r#"{"message":"Internal problem"}"#,
    r#"{"message":"Unknown conversation"}"#,
    r#"{"message":"Conversation Inbound does not exist"}"#,
    r#"{"message":"No contact list with that name"}"#,
    r#"{"message":"conversationId is required"}"#,
    r#"{"message":"email must be an email address"}"#,
    r#"{"message":"Lead not imported"}"#,
    r#"{"message":"Lead could not be added"}"#,
    r#"{"message":"Not implemented"}"#,
    r#"{"message":"Account suspended"}"#,
    r#"{"message":["Lead rejected"]}"#,
    r#"{"status":"inactive"}"#,
    r#"{"status":"suspended"}"#,
    r#"{"status":"duplicate"}"#,
    r#"{"status":"quarantined"}"#,
    r#"{"status":"deleted"}"#,
    r#"{"status":"unknown"}"#,
    r#"{"status":"down"}"#,
    r#"{"status":"maintenance"}"#,
    r#"{"status":"4xx"}"#,
    r#"{"statusCode":"E1001","message":"x"}"#,
    r#"{"accepted":[]}"#,
    r#"{"imported":0,"total":1}"#,
    r#"{"created":0,"updated":0}"#,
    r#"{"count":0}"#,
    r#"{"problems":["x"]}"#,
    r#"{"errcode":40001,"errmsg":"x"}"#,
    r#"{"code":4001}"#,
    r#"{"code":99}"#,
    r#"{"status":0,"message":"Lead could not be saved"}"#,
    r#"{"error":"No such list"}"#,
    "0",
];

const PLAIN_REJECTIONS: [&str; 13] = [
    "{'status': False, 'id': '7'}",
    "ERROR: no such list",
    "Error",
    "Failed to save the lead",
    "Too Many Requests",
    "Rate limit exceeded",
    "The lead was not saved",
    "Access denied",
    "403 Forbidden",
    "HTTP/1.1 500 Internal Server Error",
    "status=error&message=no",
    "success: false\nreason: no",
    "Warning: something in line 3\n{\"status\":false}",
];

const PAGES: [&str; 22] = [
    "<html><title>Sign in</title><form action=/login></form></html>",
    "<html><iframe src=/_Incapsula_Resource></iframe></html>",
    "<iframe src=/_Incapsula_Resource></iframe>",
    "<!DOCTYPE html><html></html>",
    "<!doctype HTML PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\">",
    "\u{feff}<!DOCTYPE html>",
    " \r\n\t\n <HTML>",
    "\u{feff}\n\u{feff} <html>",
    "<?xml version=\"1.0\"?><!DOCTYPE html><html xmlns=\"http://www.w3.org/1999/xhtml\"></html>",
    "<!-- served by the proxy --><html>",
    "<head><title>Sign in</title>",
    "<body>Sign in</body>",
    "<script>location='/login'</script>",
    "<noscript>Please enable JavaScript</noscript>",
    "<meta http-equiv=refresh content='0; url=/login'>",
    "<form method=post>",
    "<br />\n<b>Fatal error</b>: Uncaught",
    "<h1>It works!</h1>",
    "<p>hi",
    "Moved: <html><body>Sign in</body></html>",
    "{not json} <html><form action=/login>",
    "\"<html>Sign in</html>\"",
];

#[test]
fn what_says_nothing_against_it_is_an_acceptance() {
    every(Accepted, "application/json", &ACCEPTANCES);
    every(Accepted, "text/plain", &ACCEPTANCES);
    every(Accepted, "", &ACCEPTANCES);
    assert_eq!(judge_answer(None, &AnswerText::Text(String::new()), SENT), Accepted);
}

#[test]
fn json_that_says_no_is_a_rejection() {
    every(Rejected, "application/json", &REJECTIONS);
    every(Rejected, "text/html; charset=utf-8", &REJECTIONS);
    every(Rejected, "", &REJECTIONS);
    every(Rejected, "application/problem+json; charset=utf-8", &[r#"{"title":"no"}"#]);
}

#[test]
fn plain_text_that_says_no_is_a_rejection() {
    every(Rejected, "text/plain", &PLAIN_REJECTIONS);
    every(Rejected, "application/json", &PLAIN_REJECTIONS);
}

#[test]
fn a_page_is_known_by_its_beginning_whatever_it_is_called() {
    for content_type in [
        "text/html",
        "text/html;charset=UTF-8",
        "TEXT/HTML",
        "application/xhtml+xml",
        "application/json",
        "text/plain",
        "",
    ] {
        every(WebPage, content_type, &PAGES);
    }
}

#[test]
fn an_answer_that_refuses_the_credentials_is_no_rejection_of_one_lead() {
    for content_type in ["application/json", "text/plain", "text/html", ""] {
        every(
            CredentialsRefused,
            content_type,
            &[
                r#"{"message":"Invalid username or password. Additional failed attempts may result in your account being locked or your IP address being banned."}"#,
                r#"{"data":{"message":"Authentication failed"}}"#,
                "Invalid username or password",
                r#"{"message":"Wrong password"}"#,
                r#"{"message":"Invalid API key"}"#,
                r#"{"message":"Login failed"}"#,
                r#"{"message":"Your IP address has been banned"}"#,
            ],
        );
    }
}

#[test]
fn what_a_gateway_says_in_conversicas_place_is_a_page() {
    for content_type in ["application/json", "text/plain", ""] {
        every(
            WebPage,
            content_type,
            &[
                "Service Unavailable",
                "no healthy upstream",
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
                "default backend - 404",
                "Please log in",
                "We are down for maintenance",
                "The requested URL was rejected. Please consult with your administrator.",
                r#"{"message":"Service Unavailable"}"#,
                r#"{"loginRequired":true}"#,
                r#"{"redirect":"/login"}"#,
                r#"{"redirectUrl":"https://sso.example/start"}"#,
                r#"{"location":"/login"}"#,
                "Login required",
                "Guru Meditation",
                "We'll be back soon",
            ],
        );
    }
}

#[test]
fn a_page_is_known_by_its_content_type() {
    for media in ["image/png", "application/pdf", "text/javascript", "application/javascript; charset=utf-8"] {
        every(WebPage, media, &["window.location=\"/login\"", "%PDF-1.4", "\u{fffd}PNG\r\n"]);
        every(Accepted, media, &["", "{}", r#"{"status":true}"#]);
    }
    every(WebPage, "text/html", &["Please sign in", "Service temporarily unavailable", "{{ page }}"]);
    every(WebPage, " Text/HTML ; charset=utf-8", &["Please sign in"]);
    every(WebPage, "application/xhtml+xml", &["Please sign in"]);
    assert_eq!(judge_answer(Some("text/html"), &AnswerText::Unreadable("br".to_owned()), SENT), WebPage);
    // A server that calls everything HTML.
    every(Accepted, "text/html", &["", "OK", "ok.", "Success!", "{}", r#"{"status":true}"#]);
    // The request did not ask for that encoding.
    assert_eq!(judge_answer(Some("application/json"), &AnswerText::Unreadable("br".to_owned()), SENT), WebPage);
}

fn blanks() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just(' '), Just('\n'), Just('\r'), Just('\t'), Just('\u{feff}')], 0..6)
        .prop_map(String::from_iter)
}

fn mixed_case(text: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<bool>(), text.len()).prop_map(move |capitals| {
        text.chars().zip(capitals).map(|(c, capital)| if capital { c.to_ascii_uppercase() } else { c }).collect()
    })
}

proptest! {
    #[test]
    fn any_bytes_have_a_verdict(
        content_type in proptest::option::of("\\PC{0,30}"),
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        judge_answer(content_type.as_deref(), &read_body(None, &body), SENT);
    }

    #[test]
    fn anything_that_looks_like_an_answer_has_a_verdict(body in "[\\[{\"a-z:, 0-9falsetrue\\\\<>}\\]]{0,60}\\PC{0,10}") {
        for content_type in ["application/json", "text/html", "text/plain"] {
            judged(content_type, &body);
        }
    }

    #[test]
    fn the_documented_acceptances_stay_acceptances_whatever_is_around_them(
        before in blanks(), after in blanks(),
        body in prop_oneof![Just("{}"), Just(""), Just("OK"), Just("{\"status\":true}"), Just("{\"status\": true, \"message\": \"Lead accepted\"}")],
        content_type in prop_oneof![Just("application/json"), Just("text/plain"), Just("text/html"), Just("")],
    ) {
        prop_assert_eq!(judged(content_type, &format!("{before}{body}{after}")), Accepted);
    }

    #[test]
    fn no_other_key_hides_a_status_that_is_false(
        others in proptest::collection::vec(("[a-z]{1,8}", "[a-zA-Z0-9 ]{0,12}"), 0..6), at in 0_usize..7, before in blanks(),
    ) {
        let mut entries: Vec<String> = others.iter().map(|(key, value)| format!("\"x{key}\":\"{value}\"")).collect();
        entries.insert(at.min(entries.len()), "\"status\":false".to_owned());
        let body = format!("{before}{{{}}}", entries.join(","));
        prop_assert_eq!(judged("application/json", &body), Rejected, "{}", body);
    }

    #[test]
    fn a_page_is_a_page_however_it_is_written(
        before in blanks(), tag in prop_oneof![mixed_case("<!doctype html"), mixed_case("<html"), mixed_case("<iframe")], rest in "[ >]\\PC{0,40}",
    ) {
        prop_assert_eq!(judged("", &format!("{before}{tag}{rest}")), WebPage);
    }
}
