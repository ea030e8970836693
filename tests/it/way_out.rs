//! The way to Conversica: proxies and root certificates that the environment names. `check` goes the way that requests go; when the
//! way is closed, the log names the reason once.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::binary::{Cli, Output};
use crate::support::network::{HOST, HttpProxy, ProxyRule, TlsFront};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);
const REPORT: &str = "no connection to Conversica; leads wait and are tried again";
/// `user:p@ss` in a URL, and as the proxy sees it.
const IN_URL: &str = "user:p%40ss@";
const IN_HEADER: &str = "Basic dXNlcjpwQHNz";

/// A scene whose endpoint speaks TLS, with the file of its root certificate.
struct TlsScene {
    scene: Scene,
    endpoint: StandIn,
    front: TlsFront,
    roots: PathBuf,
}

impl TlsScene {
    fn new() -> Self {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::new(&endpoint.url(), 2);
        let roots = scene.directory().join("roots.pem");
        let front = TlsFront::before(endpoint.port(), &roots);
        scene.set_text("conversica", "endpoint", &format!("https://{HOST}/json/"));
        scene.set_text("delivery.retry", "initial_interval", "20ms");
        Self { scene, endpoint, front, roots }
    }

    /// The program in an environment with these variables and no others that matter here.
    fn cli(&self, variables: &[(&str, &str)]) -> Cli {
        let roots = self.roots.display().to_string();
        let mut cli = self.scene.cli().env("SSL_CERT_FILE", &roots);
        for (name, value) in variables {
            cli = cli.env(name, value);
        }
        cli
    }

    fn proxy(&self, rule: ProxyRule) -> HttpProxy {
        HttpProxy::to(self.front.port, rule)
    }
}

/// The line of `check` about the endpoint, with its cure.
#[track_caller]
fn line_of(output: &Output) -> String {
    let mut lines = output.stdout.lines().skip_while(|line| !line.contains(" endpoint "));
    let line = lines.next().unwrap_or_else(|| panic!("{output}"));
    let cure = lines.next().filter(|line| line.contains("cure:")).unwrap_or_default();
    format!("{line} {cure}")
}

/// The port of a server that answers everything with this text. Its thread ends with the test's process.
fn answering(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (mut client, mut head) = (client, [0; 1024]);
            let _ = client.read(&mut head).and_then(|_| client.write_all(text.as_bytes()));
        }
    });
    port
}

/// Runs the daemon until it has failed several times; returns what it said about the way.
#[track_caller]
fn reports(tls: &TlsScene, variables: &[(&str, &str)]) -> Vec<String> {
    let mut daemon = tls.cli(variables).spawn(&["run"]);
    daemon.wait_for_line(REPORT, SOON);
    tls.scene.wait_for_status("several attempts", SOON, |status| status["outcomes"]["transient"].as_u64() > Some(6));
    let output = daemon.kill();
    for trace in ["/.cargo/", "log.file", "src/verification"] {
        assert!(!output.stderr.contains(trace), "{output}");
    }
    output.stderr.lines().filter(|line| line.contains(REPORT)).map(str::to_owned).collect()
}

#[test]
fn check_goes_through_the_proxy_that_requests_go_through_and_names_it() {
    let tls = TlsScene::new();
    let proxy = tls.proxy(ProxyRule::Connect);
    let (url, place) = (proxy.url(), format!("the proxy 127.0.0.1 port {}", proxy.port));
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let check = tls.cli(&[(variable, &url)]).run(&["check"]).expect_code(0);
        let expected = format!("{HOST} port 443, through {place} ({variable}) answers, its certificate is valid");
        assert!(line_of(&check).contains(&expected), "{check}");
    }
    let before = proxy.asked().len();
    assert_eq!(before, 4);
    assert_eq!(tls.endpoint.requests().len(), 0, "check sends no byte of HTTP");
    tls.cli(&[("HTTPS_PROXY", &url)]).run(&["once"]).expect_code(0);
    assert_eq!(tls.endpoint.answered(), 2);
    assert!(proxy.asked()[before].starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\n")), "{:?}", proxy.asked());

    let direct = tls.cli(&[("HTTPS_PROXY", &url), ("NO_PROXY", "other.example, .example")]).run(&["check"]);
    assert!(line_of(&direct.expect_code(2)).contains(&format!("BAD   endpoint  {HOST} port 443 cannot be reached")));
}

#[test]
fn a_proxy_with_a_password_is_used_and_one_that_asks_for_it_is_named_once() {
    let mut tls = TlsScene::new();
    let proxy = tls.proxy(ProxyRule::Password(IN_HEADER));
    let asked = proxy.url();
    let with_password = asked.replace("http://", &format!("http://{IN_URL}"));
    let check = tls.cli(&[("HTTPS_PROXY", &asked)]).run(&["check"]).expect_code(2);
    let line = line_of(&check);
    assert!(line.contains("(HTTPS_PROXY) asks for a user name and a password (status 407)"), "{check}");
    assert!(line.contains("cure: write them into HTTPS_PROXY"), "{check}");

    let said = reports(&tls, &[("HTTPS_PROXY", &asked)]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("asks for a user name and a password (status 407)"), "{said:?}");

    let wrong = with_password.replace("user:", "other:");
    let check = tls.cli(&[("HTTPS_PROXY", &wrong)]).run(&["check"]).expect_code(2);
    assert!(line_of(&check).contains("refuses its user name or password (status 407)"), "{check}");
    assert!(!format!("{check}").contains("p%40ss") && !format!("{check}").contains("other:"), "{check}");

    tls.scene.set_text("delivery.retry", "max_interval", "50ms");
    let check = tls.cli(&[("HTTPS_PROXY", &with_password)]).run(&["check"]).expect_code(0);
    assert!(!format!("{check}").contains("p%40ss"), "{check}");
    tls.cli(&[("HTTPS_PROXY", &with_password)]).run(&["once"]).expect_code(0);
    assert_eq!(tls.endpoint.answered(), 2);
}

#[test]
fn a_proxy_that_refuses_is_away_or_is_of_another_kind_is_named() {
    let tls = TlsScene::new();
    let proxy = tls.proxy(ProxyRule::Refuse(403));
    let url = proxy.url();
    let check = |variables: &[(&str, &str)]| line_of(&tls.cli(variables).run(&["check"]).expect_code(2));
    let line = check(&[("HTTPS_PROXY", &url)]);
    assert!(line.contains(&format!("does not connect to {HOST} port 443 (status 403)")), "{line}");
    let said = reports(&tls, &[("HTTPS_PROXY", &url)]);
    assert!(said.len() == 1 && said[0].contains(&format!("does not connect to {HOST} port 443")), "{said:?}");

    drop(proxy);
    let line = check(&[("HTTPS_PROXY", &url)]);
    assert!(line.contains("the proxy 127.0.0.1 port") && line.contains("cannot be reached"), "{line}");
    let socks = url.replace("http:", "socks5:");
    let line = check(&[("HTTPS_PROXY", &socks)]);
    assert!(line.contains("(HTTPS_PROXY) cannot be used: it is of the kind socks5"), "{line}");
    let said = reports(&tls, &[("HTTPS_PROXY", &socks)]);
    assert!(said.len() == 1 && said[0].contains("it is of the kind socks5"), "{said:?}");

    let unread = tls.cli(&[("HTTPS_PROXY", "ftp://127.0.0.1:9")]).run(&["check"]);
    assert!(unread.stdout.contains("HTTPS_PROXY names no proxy, and is ignored"), "{unread}");
}

#[test]
fn an_issuer_that_is_not_trusted_is_said_once_without_paths_of_the_build_machine() {
    let tls = TlsScene::new();
    let proxy = tls.proxy(ProxyRule::Connect);
    let other = tls.scene.directory().join("other.pem");
    let _untrusted = TlsFront::before(tls.endpoint.port(), &other);
    let (url, other) = (proxy.url(), other.display().to_string());
    let variables = [("HTTPS_PROXY", url.as_str()), ("SSL_CERT_FILE", other.as_str())];
    let check = tls.cli(&variables).run(&["check"]).expect_code(2);
    let line = line_of(&check);
    assert!(line.contains("the issuer of its certificate is unknown to this machine"), "{check}");
    assert!(line.contains("cure:") && line.contains("SSL_CERT_FILE"), "{check}");
    let said = reports(&tls, &variables);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("the issuer of its certificate is unknown") && said[0].contains("SSL_CERT_FILE"),
        "{said:?}"
    );
    assert_eq!(tls.endpoint.requests().len(), 0);
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_from_one_that_is_away() {
    for (answer, expected) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "failed: the answer is not TLS"),
        ("", "failed: the connection was closed during the handshake"),
    ] {
        let mut tls = TlsScene::new();
        let plain = answering(answer);
        tls.scene.set_text("conversica", "endpoint", &format!("https://127.0.0.1:{plain}/json/"));
        let line = line_of(&tls.cli(&[]).run(&["check"]).expect_code(2));
        assert!(line.contains(expected), "{line}");
        let said = reports(&tls, &[]);
        assert!(said.len() == 1 && said[0].contains(expected), "{said:?}");
    }
}

#[test]
fn without_any_root_certificate_nothing_starts_and_the_missing_file_is_named() {
    let tls = TlsScene::new();
    let missing = tls.scene.directory().join("missing.pem").display().to_string();
    let variables = [("SSL_CERT_FILE", missing.as_str())];
    let expected = format!("no root certificates are found: SSL_CERT_FILE names {missing}, which is not there");
    for command in ["run", "once"] {
        let output = tls.cli(&variables).run(&[command]).expect_code(2);
        assert!(output.stderr.contains(&expected) && output.stderr.contains("ca-certificates"), "{output}");
        assert!(!output.stderr.contains("/.cargo/") && !output.stderr.contains("log.file"), "{output}");
    }
    let proxy = tls.proxy(ProxyRule::Connect);
    let variables = [("SSL_CERT_FILE", missing.as_str()), ("HTTPS_PROXY", &proxy.url())];
    let check = tls.cli(&variables).run(&["check"]).expect_code(2);
    assert!(line_of(&check).contains(&expected), "{check}");
}

#[test]
fn a_way_that_closes_while_the_daemon_runs_is_named() {
    let mut tls = TlsScene::new();
    let proxy = tls.proxy(ProxyRule::Connect);
    let (port, url) = (proxy.port, proxy.url());
    tls.scene.set_text("delivery.retry", "max_interval", "50ms");
    let mut daemon = tls.cli(&[("HTTPS_PROXY", &url)]).spawn(&["run"]);
    tls.endpoint.wait_for_requests(2, SOON);
    drop(proxy);
    tls.scene.crm("update leads set last_name = 'Bee' where id = 1");
    let line = daemon.wait_for_line(REPORT, SOON);
    assert!(line.contains(&format!("port {port}")), "{line}");
    wait_until("one report", SOON, || daemon.stderr().matches(REPORT).count() == 1);
    daemon.kill();
}
