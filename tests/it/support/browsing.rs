//! A simple HTTP browser: requests pages, keeps a cookie, reads links and forms. It follows nothing by itself.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::scene::Scene;
use super::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

pub struct Browsing {
    pub address: String,
    cookie: Option<String>,
}

pub struct Page {
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
    headers: Vec<(String, String)>,
}

/// The fields that a form would post.
pub struct Form(Vec<(String, String)>);

impl Browsing {
    pub fn of(address: &str) -> Self {
        Self { address: address.to_owned(), cookie: None }
    }

    /// Signed in with a link that the command line prints, as soon as there is a state.
    #[track_caller]
    pub fn signed_in(scene: &Scene, address: &str) -> Self {
        let mut browsing = Self::of(address);
        let page = browsing.get(&wait_for("a link", SOON, || Self::link(scene, address)));
        assert_eq!(page.status, 303, "{}", page.body);
        browsing.keep_cookie(&page);
        browsing
    }

    /// The path of a link that signs in; `None` while there is no state.
    pub fn link(scene: &Scene, address: &str) -> Option<String> {
        let made = scene.cli().run(&["dashboard", "--address", address]);
        let link = made.stdout.trim().strip_prefix(&format!("http://{address}"))?;
        Some(link.to_owned())
    }

    /// The status of a `HEAD` request.
    #[track_caller]
    pub fn head(&self, path: &str) -> u16 {
        self.ask(Method::HEAD, path, None, &[]).status
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Page {
        self.ask(Method::GET, path, None, &[])
    }

    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Page {
        self.ask(Method::GET, path, None, headers)
    }

    /// Posts a form as a page of the dashboard would, unless the headers say otherwise.
    #[track_caller]
    pub fn post(&self, path: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Page {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.ask(Method::POST, path, Some(form), headers)
    }

    #[track_caller]
    pub fn sign_in(&mut self, token: &str) {
        let page = self.post("/login", &[("token", token)], &[]);
        assert_eq!(page.status, 303, "{}", page.body);
        self.keep_cookie(&page);
    }

    pub fn keep_cookie(&mut self, page: &Page) {
        self.cookie = page.header("set-cookie").split(';').next().map(str::to_owned);
    }

    /// Requests the page until it contains that text.
    #[track_caller]
    pub fn wait_for(&self, path: &str, text: &str) -> Page {
        wait_for(text, SOON, || Some(self.get(path)).filter(|page| page.text().contains(text)))
    }

    #[track_caller]
    fn ask(&self, method: Method, path: &str, form: Option<String>, headers: &[(&str, &str)]) -> Page {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let redirects = reqwest::redirect::Policy::none();
            let client =
                reqwest::Client::builder().no_proxy().timeout(SOON).redirect(redirects).build().expect("a client");
            let mut request = client.request(method, format!("http://{}{path}", self.address));
            if let Some(form) = form {
                request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(cookie) = &self.cookie {
                request = request.header("cookie", cookie);
            }
            let answer = request.send().await.expect("the dashboard answers");
            let text = |value: &reqwest::header::HeaderValue| value.to_str().expect("a text").to_owned();
            let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
            let headers: Vec<(String, String)> = headers.collect();
            let location = headers.iter().find(|(name, _)| name == "location").map(|(_, value)| value.clone());
            Page { status: answer.status().as_u16(), location, headers, body: answer.text().await.expect("a body") }
        })
    }
}

impl Page {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The page as a person reads it: without tags, entities decoded, white space as one space.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for piece in self.body.split('<') {
            let (tag, words) = piece.split_once('>').unwrap_or(("", piece));
            // Separate lines and cells do not run together.
            let inline = ["code", "/code", "a", "/a", "strong", "/strong", "time", "/time"];
            if !inline.contains(&tag.split(' ').next().unwrap_or_default()) {
                text.push(' ');
            }
            text.push_str(words);
        }
        unescaped(&text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Addresses of links that begin with `beginning`.
    pub fn links(&self, beginning: &str) -> Vec<String> {
        let hrefs = self.body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(unescaped);
        hrefs.filter(|href| href.starts_with(beginning)).collect()
    }

    /// The fields of the form with that action.
    #[track_caller]
    pub fn form(&self, action: &str) -> Form {
        let start = format!("action=\"{action}\"");
        let form = self.body.split(&start).nth(1).and_then(|rest| rest.split("</form>").next());
        let form = form.unwrap_or_else(|| panic!("no form that posts to {action}: {}", self.body));
        let attribute = |tag: &str, name: &str| {
            tag.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).map(unescaped)
        };
        let inputs =
            form.split("<input").skip(1).filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)));
        Form(inputs.collect())
    }

    /// Checks that the page loads and runs only our own files, and that no browser keeps it and no site frames it.
    #[track_caller]
    pub fn is_strict(&self) {
        let policy = self.header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.split("; ").any(|have| have == rule), "{rule}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let headers = ["x-content-type-options", "referrer-policy", "cache-control"].map(|name| self.header(name));
        assert_eq!(headers, ["nosniff", "no-referrer", "no-store"]);
        for inline in
            ["<style", " style=", "<script>", "javascript:", " onclick=", "http-equiv", "src=\"http", "href=\"http"]
        {
            assert!(!self.body.contains(inline), "{inline}: {}", self.body);
        }
        for needed in ["<html lang=\"en\">", "<main", "<h1", "name=\"viewport\""] {
            assert!(self.body.contains(needed), "{needed}: {}", self.body);
        }
        assert_eq!(self.body.matches("<h1").count(), 1);
    }
}

impl Form {
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[track_caller]
    pub fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str()).expect("the form has it")
    }
}

fn unescaped(html: &str) -> String {
    let html = html.replace("&#60;", "<").replace("&#62;", ">").replace("&#34;", "\"").replace("&#39;", "'");
    html.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#38;", "&").replace("&amp;", "&")
}
