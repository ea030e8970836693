//! The sandbox over real HTTP: Conversica's answers, its memory of leads, and every fault as a client meets it.

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode, redirect::Policy};
use serde_json::{Value, json};

use conversica_sync::sandbox::{RunningSandbox, SandboxOptions, start};

const TIMEOUT: Duration = Duration::from_millis(300);
const UNAUTHORIZED: &str = "{\"message\":\"Invalid username or password. Additional failed attempts may result in your \
                            account being locked or your IP address being banned.\"}";

struct Desk {
    sandbox: RunningSandbox,
    client: Client,
}

async fn desk(faults: &str) -> Desk {
    let options = SandboxOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        username: "sandbox".into(),
        password: "pässword".into(),
        faults: faults.parse().unwrap(),
        seed: 1,
        play: None,
    };
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    Desk { sandbox: start(options).await.unwrap(), client }
}

fn lead(id: &str, first_name: &str) -> String {
    json!({"apiVersion": "7.2", "id": id, "firstName": first_name, "email": "sally@example.com",
        "leadSource": "Website", "repName": "John"})
    .to_string()
}

impl Desk {
    async fn post_as(&self, password: &str, body: impl Into<reqwest::Body>) -> Result<Response, reqwest::Error> {
        let request = self.client.post(self.sandbox.endpoint()).basic_auth("sandbox", Some(password));
        request.timeout(Duration::from_secs(10)).body(body).send().await
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> Result<Response, reqwest::Error> {
        self.post_as("pässword", body).await
    }

    async fn call(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.sandbox.address);
        told(self.client.request(method, url).send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path).await.1
    }
}

async fn told(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_good_lead_is_accepted_and_kept_byte_for_byte() {
    let desk = desk("").await;
    let odd = "{ \"repName\":\"J\\u00f6rg\",\n\"apiVersion\":\"7.2\",\"id\":\"7\",\"firstName\":\"Ann\",\
               \"email\":\"a@example.com\",\"leadSource\":\"Web\",\"dealerGroup\":7, \"clientId\":\"north\"}";
    let answer = told(desk.post(odd).await.unwrap()).await;
    assert_eq!(answer, (StatusCode::OK, json!({"message": "Lead accepted", "status": true})));
    for body in [lead("1", "Sally"), lead("1", "Sandra"), lead("1", "Sandra")] {
        desk.post(body).await.unwrap();
    }
    assert_eq!(desk.sandbox.leads(), [odd.to_owned(), lead("1", "Sandra")]);
    let url = format!("http://{}/leads", desk.sandbox.address);
    let listed = desk.client.get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(listed, format!("[{odd},{}]", lead("1", "Sandra")));

    assert_eq!(desk.get("/leads?id=1").await.as_array().unwrap().len(), 1);
    assert_eq!(desk.get("/leads?clientId=south").await, json!([]));
    let posts = desk.get("/posts").await;
    assert_eq!(posts.as_array().unwrap().len(), 4);
    assert_eq!(
        (&posts[0]["seq"], &posts[0]["clientId"], &posts[0]["status"]),
        (&json!(1), &json!("north"), &json!(200))
    );
    assert!(chrono::DateTime::parse_from_rfc3339(posts[3]["at"].as_str().unwrap()).is_ok());
    let counts = desk.get("/counts").await;
    assert_eq!((&counts["leads"], &counts["accepted"], &counts["repeated"]), (&json!(2), &json!(4), &json!(1)));
}

#[tokio::test]
async fn the_slash_at_the_end_may_be_left_out() {
    let desk = desk("").await;
    let url = desk.sandbox.endpoint();
    let request = desk.client.post(url.trim_end_matches('/')).basic_auth("sandbox", Some("pässword"));
    assert_eq!(request.body(lead("1", "Sally")).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_bad_lead_is_refused_with_all_its_problems() {
    let desk = desk("").await;
    let (status, body) =
        told(desk.post(r#"{"apiVersion":"7.2","id":7,"email":"x","date":"today"}"#).await.unwrap()).await;
    assert_eq!((status, &body["status"]), (StatusCode::BAD_REQUEST, &json!(false)));
    let message = body["message"].as_str().unwrap();
    for part in
        ["id must be a string", "email is not shaped", "date is not", "firstName is missing", "repName is missing"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
    let answer = told(desk.post("Sally").await.unwrap()).await;
    assert_eq!(answer.0, StatusCode::BAD_REQUEST);
    assert!(answer.1["message"].as_str().unwrap().contains("not JSON"));
    assert_eq!(desk.sandbox.counts().rejected_400, 2);
    assert_eq!(desk.get("/leads").await, json!([]));
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_too_large_and_one_just_below_is_not() {
    let desk = desk("").await;
    let filled = |to: usize| {
        let body = lead("1", "");
        body.replace("\"firstName\":\"\"", &format!("\"firstName\":\"{}\"", "x".repeat(to - body.len())))
    };
    assert_eq!(desk.post(filled(1 << 20)).await.unwrap().status(), StatusCode::OK);
    let (status, body) = told(desk.post(filled((1 << 20) + 1)).await.unwrap()).await;
    assert_eq!((status, &body["status"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!(false)));
    assert_eq!(desk.post(filled(9 << 20)).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(desk.sandbox.counts().too_large_413, 2);
}

#[tokio::test]
async fn a_wrong_password_is_refused_as_conversica_does_before_the_body_is_judged() {
    let desk = desk("").await;
    let refused = desk.post_as("wrong", "not even JSON").await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()["www-authenticate"], "Basic realm=\"Conversica\"");
    assert_eq!(refused.text().await.unwrap(), UNAUTHORIZED);
    let anonymous = desk.client.post(desk.sandbox.endpoint()).body(lead("1", "Sally")).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((desk.sandbox.counts().unauthorized_401, desk.sandbox.counts().leads), (2, 0));
}

#[tokio::test]
async fn refused_passwords_in_a_row_lock_the_account_until_it_is_unlocked() {
    let desk = desk("lock_after=3").await;
    for password in ["wrong", "wrong", "pässword", "wrong", "wrong", "wrong"] {
        desk.post_as(password, lead("1", "Sally")).await.unwrap();
    }
    let (status, body) = told(desk.post(lead("1", "Sally")).await.unwrap()).await;
    assert_eq!((status, &body["status"]), (StatusCode::FORBIDDEN, &json!(false)));
    assert_eq!(desk.post_as("wrong", "").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(desk.get("/counts").await["locked"], json!(true));
    assert_eq!(desk.call(Method::POST, "/unlock").await.0, StatusCode::OK);
    assert_eq!(desk.post(lead("1", "Sally")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn only_post_reaches_the_endpoint_and_other_paths_are_not_found() {
    let desk = desk("").await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        for path in ["/json/", "/json"] {
            let (status, body) = desk.call(method.clone(), path).await;
            assert_eq!((status, &body["status"]), (StatusCode::METHOD_NOT_ALLOWED, &json!(false)));
            assert!(body["message"].is_string());
        }
    }
    assert_eq!(desk.call(Method::POST, "/xml/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(desk.call(Method::GET, "/unlock").await.0, StatusCode::METHOD_NOT_ALLOWED);
    let page = desk.client.get(format!("http://{}/", desk.sandbox.address)).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("DELETE /leads"));
    assert_eq!(desk.sandbox.counts().posts, 0);
}

#[tokio::test]
async fn forgetting_starts_over() {
    let desk = desk("").await;
    desk.post(lead("1", "Sally")).await.unwrap();
    assert_eq!(desk.call(Method::DELETE, "/leads").await.0, StatusCode::OK);
    assert_eq!((desk.get("/leads").await, desk.get("/posts").await), (json!([]), json!([])));
    assert_eq!(desk.sandbox.counts(), Default::default());
}

#[tokio::test]
async fn status_faults_answer_without_taking_the_lead_and_say_when_to_come_back() {
    for (faults, status, retry_after) in [
        ("500=100%,retry_after=2s", 500, None),
        ("503=100%,retry_after=2s", 503, Some("2")),
        ("429=100%,retry_after=7s", 429, Some("7")),
        ("429=100%", 429, None),
        ("refuse=100%", 400, None),
        ("status_false=100%", 200, None),
        ("login_page=100%", 200, None),
    ] {
        let desk = desk(faults).await;
        let answer = desk.post(lead("1", "Sally")).await.unwrap();
        let told_to_wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), told_to_wait), (status, retry_after), "{faults}");
        let counts = desk.sandbox.counts();
        assert_eq!((counts.leads, counts.accepted, counts.faults_injected), (0, 0, 1), "{faults}");
    }
}

#[tokio::test]
async fn a_cut_takes_the_lead_and_a_drop_does_not_and_neither_answers() {
    for (faults, leads) in [("cut=100%", 1), ("drop=100%", 0)] {
        let desk = desk(faults).await;
        let error = desk.post(lead("1", "Sally")).await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{faults}: {error:?}");
        assert_eq!(desk.sandbox.counts().leads, leads, "{faults}");
        let posts = desk.get("/posts").await;
        assert_eq!(posts.as_array().unwrap().len() as u64, leads, "{faults}");
        if leads == 1 {
            assert_eq!((&posts[0]["status"], &posts[0]["fault"]), (&Value::Null, &json!("cut")));
        }
    }
}

#[tokio::test]
async fn a_timeout_takes_the_lead_and_never_answers_and_does_not_delay_stopping() {
    let desk = desk("timeout=100%").await;
    let request = desk.client.post(desk.sandbox.endpoint()).basic_auth("sandbox", Some("pässword"));
    let error = request.timeout(TIMEOUT).body(lead("1", "Sally")).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(desk.sandbox.leads(), [lead("1", "Sally")]);

    let Desk { sandbox, client } = desk;
    let request = client.post(sandbox.endpoint()).basic_auth("sandbox", Some("pässword")).body(lead("2", "Sally"));
    let waiting = tokio::spawn(request.send());
    let taken = async {
        while sandbox.counts().leads < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), taken).await.expect("the second lead is taken");
    tokio::time::timeout(Duration::from_secs(3), sandbox.stop()).await.expect("held requests are let go at the stop");
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn requests_in_flight_are_counted_over_all_leads_and_for_one() {
    let desk = desk("latency=150ms").await;
    let started = std::time::Instant::now();
    let bodies = [lead("1", "a"), lead("1", "b"), lead("2", "a"), lead("3", "a")];
    for answer in futures_util::future::join_all(bodies.map(|body| desk.post(body))).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert!(started.elapsed() >= Duration::from_millis(150));
    let counts = desk.sandbox.counts();
    assert_eq!((counts.max_in_flight, counts.max_in_flight_per_lead, counts.leads), (4, 2, 3));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let desk = desk("").await;
    let options = SandboxOptions {
        listen: desk.sandbox.address,
        username: String::new(),
        password: String::new(),
        faults: Default::default(),
        seed: 1,
        play: None,
    };
    let refused = start(options).await.err().expect("the address is taken");
    assert!(format!("{refused:#}").contains(&desk.sandbox.address.to_string()));
}
