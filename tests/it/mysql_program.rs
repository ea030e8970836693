//! The program with a MariaDB source, from `check` and `plan` to sent leads.

use std::time::Duration;

use crate::support::mariadb::{MariaDatabase, mariadb};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);

const TABLE: &str = "create table leads (id int primary key auto_increment, first_name varchar(50), last_name varchar(50), \
                     email varchar(100), owner_name varchar(50), opt_out tinyint(1) not null default 0, \
                     updated_at timestamp(6) not null default now(6) on update now(6), index (updated_at))";

fn scene_of(crm: &MariaDatabase, endpoint: &StandIn, rights: &str) -> Scene {
    crm.sql(TABLE);
    crm.sql("insert into leads (first_name, last_name, email, owner_name) values ('Ann', 'Bell', 'ann@example.com', 'Rae Rep'), \
             ('Zoë', 'Łódź', 'zoe@example.com', 'Rae Rep')");
    let mut scene = Scene::without_source(&endpoint.url());
    let url = crm.user_with(rights);
    scene.set_text("source", "url", &url).set_text("source", "changed_at", "updated_at");
    scene
}

#[test]
fn once_sends_what_is_new_and_changed_and_nothing_twice() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let scene = scene_of(&crm, &endpoint, &format!("grant select on {}.* to", crm.name));
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!((&plan["create"], &plan["new_people"]), (&2.into(), &2.into()), "{plan}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("2")[0]["firstName"], "Zoë");
    assert_eq!(endpoint.bodies_of("2")[0]["lastName"], "Łódź");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 2);
    crm.sql("update leads set first_name = 'Anna', opt_out = 1 where id = 1");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(scene.status()["last_poll"]["kind"], "incremental");
    assert_eq!(endpoint.answered(), 3);
    let changed = &endpoint.bodies_of("1")[1];
    assert_eq!((&changed["firstName"], &changed["optOut"]), (&"Anna".into(), &true.into()));
}

#[test]
fn the_daemon_follows_changes_and_deletes() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let mut scene = scene_of(&crm, &endpoint, "grant select, process on *.* to");
    scene.set_text("source", "full_compare_interval", "500ms").set_text("source", "on_delete", "stop_messaging");
    let daemon = scene.daemon();
    scene.wait_for_status("both leads to be sent", SOON, |status| status["leads"]["in_sync"] == 2);
    crm.sql("insert into leads (first_name, last_name, email, owner_name) values ('Cy', 'Ask', 'cy@example.com', 'Rae Rep')");
    scene.wait_for_status("the new lead to be sent", SOON, |status| status["leads"]["in_sync"] == 3);
    crm.sql("delete from leads where id = 1");
    scene.wait_for_status("the deleted lead to be stopped", SOON, |status| status["leads"]["gone"] == 1);
    drop(daemon);
    assert_eq!(endpoint.bodies_of("1")[1]["stopMessaging"], true);
}

#[test]
fn a_soft_deleted_lead_is_gone_by_the_next_incremental_poll() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let mut scene = scene_of(&crm, &endpoint, &format!("grant select on {}.* to", crm.name));
    crm.sql("insert into leads (first_name, last_name, email, owner_name) values ('Cy', 'Ask', 'cy@example.com', 'Rae Rep')");
    scene.set_text("source", "where", "last_name <> 'Spam'").set_text("source", "on_delete", "stop_messaging");
    scene.run(&["once"]).expect_code(0);
    crm.sql("update leads set last_name = 'Spam' where id = 2");
    scene.run(&["once"]).expect_code(0);
    let status = scene.status();
    assert_eq!(
        (&status["last_poll"]["kind"], &status["leads"]["gone"]),
        (&"incremental".into(), &1.into()),
        "{status}"
    );
    assert_eq!(endpoint.bodies_of("2")[1]["stopMessaging"], true);
}

#[test]
fn check_names_the_tables_that_a_query_reads() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let mut scene = scene_of(&crm, &endpoint, &format!("grant select on {}.* to", crm.name));
    crm.sql("create table owners (name varchar(50), shown varchar(50)); create table others (id int)");
    scene.set("source", "table", "").set_text(
        "source",
        "query",
        "select l.id, l.first_name, l.last_name, l.email, o.shown as owner_name, l.opt_out, l.updated_at from leads l left join owners o on o.name = l.owner_name",
    );
    let text = scene.run(&["check"]).to_string();
    assert!(text.contains("the source reads leads, owners: changed_at should take in the stamp of each"), "{text}");
}

#[test]
fn check_says_what_the_user_may_see_and_do() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let scene = scene_of(&crm, &endpoint, &format!("grant select on {}.* to", crm.name));
    let text = scene.run(&["check"]).to_string();
    for words in [
        "MariaDB ",
        "changed_at is a timestamp with its zone",
        "an index serves changed_at",
        "open transactions of other users cannot be seen",
        "grant process on *.* to user_",
        "sessions are read-only, and user_",
        "the clock of the source's server and ours agree",
        "every row has a key, and no two rows the same",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("pg_"), "{text}");

    let mut scene = scene;
    let all = crm.user_with("grant all on *.* to");
    scene.set_text("source", "url", &all);
    let text = scene.run(&["check"]).to_string();
    for words in ["open transactions can be seen", "may write: a user that may only read"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn check_names_the_tables_that_are_locked_while_they_are_read() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let mut scene = scene_of(&crm, &endpoint, "grant select, process, show view on *.* to");
    crm.sql(
        "create table phones (lead_id int, phone text) engine = MyISAM; insert into phones values (1, '1'), (2, '2'); \
         create table phones_old (id int) engine = MyISAM; create view people as select l.* from leads l join phones p on p.lead_id = l.id",
    );
    let text = scene.run(&["check"]).to_string();
    assert!(!text.contains("engine without snapshots"), "{text}");
    scene.set_text("source", "table", "people");
    let text = scene.run(&["check"]).to_string();
    assert!(text.contains("phones (MyISAM)") && text.contains("alter table phones engine = InnoDB"), "{text}");
    assert!(!text.contains("phones_old"), "{text}");

    let reader = crm.user("select");
    scene.set_text("source", "url", &reader);
    let text = scene.run(&["check"]).to_string();
    assert!(text.contains("does not show this user the plan of a view") && !text.contains("BAD   changes"), "{text}");
}

#[test]
fn sessions_of_the_program_may_not_write() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let mut scene = scene_of(&crm, &endpoint, "grant all on *.* to");
    crm.define("create function touched() returns int modifies sql data begin update leads set first_name = 'x'; return 1; end");
    let url = crm.url.clone();
    scene.set_text("source", "url", &url).set_text("source", "where", "touched() = 1");
    scene.run(&["once"]);
    assert_eq!(crm.sql("select first_name from leads where id = 1"), "Ann");
    assert_eq!(endpoint.answered(), 0);
}

#[test]
fn what_does_not_work_on_mariadb_is_refused_and_nothing_is_done() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let mut scene = scene_of(&crm, &endpoint, &format!("grant all on {}.* to", crm.name));
    scene.set_text("source", "changes", "triggers");
    for command in [&["once"][..], &["run"], &["triggers", "install", "--yes"], &["triggers", "print"]] {
        let output = scene.run(command).expect_code(2);
        assert!(output.to_string().contains("no triggers on MySQL and MariaDB"), "{output}");
    }
    scene.set_text("source", "changes", "poll");
    for command in [&["triggers", "install", "--yes"][..], &["triggers", "print"], &["triggers", "remove", "--yes"]] {
        let output = scene.run(command).expect_code(2);
        assert!(output.to_string().contains("no change-log triggers on MySQL and MariaDB"), "{output}");
    }
    assert_eq!(crm.sql("show tables"), "leads");
}

#[test]
fn doubled_keys_concern_their_own_rows_and_keys_that_differ_in_case_are_two_leads() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    crm.sql(
        "create table leads (id varchar(20) collate utf8mb4_general_ci, first_name varchar(50), last_name varchar(50), \
             email varchar(100), owner_name varchar(50), opt_out tinyint(1) not null default 0)",
    );
    let row = |id: &str, name: &str| format!("('{id}', '{name}', 'Bell', '{name}@example.com', 'Rae Rep', 0)");
    let rows = [row("x1", "ann"), row("X1", "bo"), row("d", "cy"), row("d", "dee"), row("z", "eve")].join(", ");
    crm.sql(&format!("insert into leads values {rows}"));
    let mut scene = Scene::without_source(&endpoint.url());
    scene.set_text("source", "url", &crm.url);
    scene.run(&["once"]).expect_code(3);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("d").len()), (3, 0));
    assert_eq!(endpoint.bodies_of("x1")[0]["firstName"], "ann");
    assert_eq!(endpoint.bodies_of("X1")[0]["firstName"], "bo");
    let check = scene.run(&["check"]).to_string();
    assert!(check.contains("the key column \"id\" is not unique: 2 rows share 1 key(s)"), "{check}");
}

#[test]
fn a_table_that_another_session_has_locked_is_waited_for() {
    let (crm, endpoint) = (mariadb().database(), StandIn::accepting());
    let scene = scene_of(&crm, &endpoint, &format!("grant select on {}.* to", crm.name));
    let daemon = scene.daemon();
    scene.wait_for_status("both leads to be sent", SOON, |status| status["leads"]["in_sync"] == 2);
    let mut session = crm.session();
    session.sql("lock tables leads write");
    session.sql("update leads set first_name = 'Anna' where id = 1");
    scene.wait_for_status("the lock to show", SOON, |status| {
        status["last_poll"]["error"].as_str().is_some_and(|error| error.contains("locked by another session"))
    });
    session.sql("unlock tables");
    wait_until("the change to be sent", SOON, || endpoint.bodies_of("1").len() == 2);
    drop(daemon);
    assert_eq!(endpoint.bodies_of("1")[1]["firstName"], "Anna");
}
