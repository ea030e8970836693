//! A real browser without a window: Debian's Chromium, controlled over its own protocol (DevTools) through a pair of
//! pipes. No port, no driver and no crate in between.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

pub struct Chromium {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    /// Events that came while the test waited for an answer.
    events: VecDeque<Value>,
    session: String,
    calls: u64,
    _profile: TempDir,
}

/// The width and the colour scheme of the page.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl Chromium {
    #[track_caller]
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        // The browser reads commands from its third stream and answers on its fourth, each ended by a NUL.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 >/dev/null 2>&1", "sh", "chromium", "--remote-debugging-pipe"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tests/run installs Chromium where it is missing");
        let to = child.stdin.take();
        let mut stream = BufReader::new(child.stdout.take().expect("the answers are piped"));
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while stream.read_until(0, &mut message).is_ok_and(|bytes| bytes > 0) {
                message.pop();
                let sent = serde_json::from_slice(&message).is_ok_and(|message: Value| sender.send(message).is_ok());
                if !sent {
                    return;
                }
                message.clear();
            }
        });
        let mut browser =
            Self { child, to, from, events: VecDeque::new(), session: String::new(), calls: 0, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol, and waits for its answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let to = self.to.as_mut().expect("the browser listens");
        to.write_all(&bytes).and_then(|()| to.flush()).expect("the browser listens");
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    #[track_caller]
    pub fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.wait_until("the page is loaded", "document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// Waits until an expression is true in the page, which may be another page by then.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, expression: &str) {
        let expression = format!("Boolean({expression})");
        let start = Instant::now();
        super::wait::wait_until(what, SOON + Duration::from_secs(5), || {
            // While a page loads, the browser cannot answer.
            let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
            let is = answer["result"]["value"] == true;
            assert!(is || start.elapsed() < SOON, "in vain: {what}\n{}", self.text());
            is
        });
    }

    #[track_caller]
    pub fn wait_for_text(&mut self, text: &str) {
        self.wait_until(text, &format!("document.body && document.body.innerText.includes({})", json!(text)));
    }

    /// The page as a person reads it.
    #[track_caller]
    pub fn text(&mut self) -> String {
        self.eval("document.body ? document.body.innerText : ''").as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the element of that selector where a person would.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let place = self.eval(&format!(
            "(() => {{ const e = document.querySelector({}); if (!e) return null; e.scrollIntoView({{block: 'center'}}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            json!(selector)
        ));
        assert!(place.is_array(), "there is no {selector}:\n{}", self.text());
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Types into the focused element.
    #[track_caller]
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    #[track_caller]
    pub fn look(&mut self, view: View) {
        let View { width, height, dark } = view;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        let still = json!({ "name": "prefers-reduced-motion", "value": "reduce" });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [scheme, still] }));
    }

    /// A screenshot, as PNG.
    #[track_caller]
    pub fn screenshot(&mut self) -> Vec<u8> {
        use base64::Engine as _;
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png", "optimizeForSpeed": false }));
        let picture = picture["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(picture).expect("base64")
    }

    /// Complaints of the browser: script errors, violations of the policy, failed answers.
    #[track_caller]
    pub fn complaints(&mut self) -> Vec<String> {
        self.eval("1");
        self.events.extend(self.from.try_iter());
        let complaints = self.events.iter().filter_map(|event| {
            let parameters = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
                "Log.entryAdded" => Some(parameters["entry"].to_string()),
                "Runtime.consoleAPICalled" => Some(parameters["args"].to_string()),
                _ => None,
            }
        });
        complaints.collect()
    }

    /// Addresses that the browser has requested.
    pub fn requested(&self) -> Vec<String> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        requests.filter_map(|event| Some(event["params"]["request"]["url"].as_str()?.to_owned())).collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The browser ends when its streams do; a kill would leave its child processes.
        drop(self.to.take());
        let ended = Instant::now() + Duration::from_secs(5);
        while Instant::now() < ended && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
