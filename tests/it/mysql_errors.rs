//! What is said about a MySQL or MariaDB source that cannot be read, and about URLs of engines that cannot be read at all.

use std::time::Duration;

use crate::support::engine::{Engine, Place};
use crate::support::mariadb::{MariaServer, mariadb};
use crate::support::reading::refusal;
use crate::support::scene::Scene;
use crate::support::stand_in::{StandIn, refused_port};

const LEADS: &str = "table = 'leads'\nkey = 'id'";

fn at(url: String) -> Place {
    Place::at(Engine::Postgres, url)
}

#[tokio::test]
async fn each_mistake_is_named_with_its_cure() {
    let crm = mariadb().database();
    crm.sql("create table leads (id int primary key, name text); create table customers (id int primary key)");
    let wrong_database = crm.url.replace(&crm.name, "nowhere");
    let wrong_password = crm.user("select").replace("let%20me%20in", "guessed");
    let no_rights = crm.user_with("grant usage on *.* to");
    for (url, source, what, cure) in [
        (wrong_database, LEADS, "Unknown database 'nowhere'", "name a database that is there"),
        (wrong_password, LEADS, "Access denied for user", "the user and the password of [source] url"),
        (no_rights, LEADS, "Access denied", "grant"),
        (crm.url.clone(), "table = 'laeds'\nkey = 'id'", "laeds' doesn't exist", "did you mean \"leads\"?"),
        (crm.url.clone(), "table = 'leads'\nkey = 'idd'", "no column \"idd\"", "id, name"),
        (
            crm.url.clone(),
            "table = 'leads'\nkey = 'id'\nwhere = 'nmae = 1'",
            "Unknown column 'nmae'",
            "did you mean \"name\"?",
        ),
        (crm.url.clone(), "query = 'select id fro leads'\nkey = 'id'", "SQL syntax", "by hand"),
        (crm.url.clone(), "query = 'select id from laeds'\nkey = 'id'", "laeds' doesn't exist", "leads"),
    ] {
        let refused = refusal(&at(url), source, "").await;
        assert!(refused.what.contains(what), "{source}: {refused}");
        assert!(refused.cure.contains(cure), "{source}: {refused}");
        assert!(!refused.to_string().contains("guessed"), "{refused}");
    }
    let select_only_one = crm.user_with(&format!("grant select on {}.customers to", crm.name));
    let refused = refusal(&at(select_only_one), LEADS, "").await;
    assert!(refused.what.contains("denied to user") && refused.cure.contains("grant select"), "{refused}");
}

#[test]
fn a_message_of_the_server_shows_no_value_of_a_row() {
    let crm = mariadb().database();
    crm.sql(
        "create table leads (id int primary key, email varchar(50)); insert into leads values (1, 'ann@example.com')",
    );
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    scene.set_text("source", "url", &crm.url).set("source", "table", "");
    scene.set_text("source", "query", "select id, email, exp(char_length(email) * 1000) as first_name from leads");
    scene.set("lead", "lastName", "").set("lead", "optOut", "").set_text("lead", "repName", "email");
    let output = scene.run(&["plan"]);
    assert!(!output.to_string().contains("ann@example.com"), "{output}");
    assert!(output.to_string().contains("MySQL error 1690"), "{output}");
}

#[test]
fn engines_that_cannot_be_read_are_named_at_once() {
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    for (url, what) in [
        ("sqlserver://sa:hidden-word@host/crm", "is a URL of Microsoft SQL Server, which cannot be read"),
        ("mssql://host/crm", "is a URL of Microsoft SQL Server, which cannot be read"),
        ("oracle://host/crm", "is a URL of Oracle, which cannot be read"),
        ("jdbc:mysql://host/crm", "is a URL for Java's JDBC"),
        ("mongodb://host/crm", "is a URL of MongoDB, which cannot be read"),
        ("mysql://one,two/crm", "names several hosts"),
        ("postgres://one:5432,two:5432/crm", "names several hosts"),
    ] {
        scene.set_text("source", "url", url);
        for command in [&["check"][..], &["once"], &["run"], &["plan"]] {
            let output = scene.run(command).expect_code(2);
            assert!(output.to_string().contains(what), "{url} {command:?}: {output}");
            assert!(!output.to_string().contains("hidden-word"), "{output}");
        }
        let output = scene.cli().run(&["init", "--url", url, "--yes", "--output", "new.toml"]).expect_code(2);
        assert!(output.to_string().contains(what), "init {url}: {output}");
    }
}

#[test]
fn the_state_stays_on_sqlite_or_postgresql() {
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    scene.set_text("source", "url", "mysql://reader@localhost/crm").set_text("state", "url", "mysql://localhost/state");
    let output = scene.run(&["once"]).expect_code(2);
    assert!(output.to_string().contains("the state is kept on SQLite or PostgreSQL"), "{output}");
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let endpoint = StandIn::accepting();
    let server = MariaServer::private();
    let crm = server.database();
    crm.sql("create table leads (id int primary key, first_name text, last_name text, email text, owner_name text, opt_out int)");
    crm.sql("insert into leads values (1, 'Ann', 'Bell', 'ann@example.com', 'Rae Rep', 0)");
    let mut scene = Scene::without_source(&endpoint.url());
    let url = format!("{}?ssl-mode=disabled", crm.user("select"));
    scene.set_text("source", "url", &url);
    server.stop();
    let output = scene.run(&["once"]);
    assert!(output.code != Some(0) && endpoint.requests().is_empty(), "{output}");
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("the source is away; waiting for it", Duration::from_secs(30));
    server.start();
    scene.wait_for_status("the lead to be sent", Duration::from_secs(60), |status| status["leads"]["in_sync"] == 1);
    server.stop();
    scene.wait_for_status("the outage to show", Duration::from_secs(30), |status| {
        status["last_poll"]["error"].as_str().is_some()
    });
    server.start();
    crm.sql("insert into leads values (2, 'Bo', 'Dyck', 'bo@example.com', 'Rae Rep', 0)");
    scene.wait_for_status("the new lead to be sent", Duration::from_secs(60), |status| status["leads"]["in_sync"] == 2);
    drop(daemon);
    assert_eq!(endpoint.answered(), 2);
}

#[test]
fn a_port_where_nobody_listens_says_so() {
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    scene.set_text("source", "url", &format!("mysql://reader@127.0.0.1:{}/crm", refused_port()));
    let output = scene.run(&["check"]);
    assert!(output.to_string().contains("cannot be reached") && output.to_string().contains("refused"), "{output}");
}
