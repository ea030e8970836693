//! Triggers on a table that an ordinary role owns: whichever role installs them, they run with the rights of the owner
//! and no others.

use crate::support::engine::Engine;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

/// A CRM whose table belongs to an ordinary role; the program reads with a second role, and a third one writes.
struct Rights {
    scene: Scene,
    owner: String,
    writer: String,
    reader: String,
}

impl Rights {
    fn new(endpoint: &str) -> Self {
        let mut scene = Scene::on(Engine::Postgres, endpoint, 3);
        let name = scene.crm("select current_database()").concat();
        let [owner, writer, reader] = ["owner", "writer", "reader"].map(|role| format!("{role}_{name}"));
        scene.crm(&format!(
            "create role {owner} login; create role {writer} login; create role {reader} login; \
             alter table leads owner to {owner}; grant usage, create on schema public to {owner}; \
             grant select on leads to {reader}; grant select, insert, update, delete on leads to {writer}"
        ));
        let url = scene.crm_store().url();
        scene.set_text("source", "changes", "triggers");
        scene.set_text("source", "url", &url.replacen("postgres@", &format!("{reader}@"), 1));
        Self { scene, owner, writer, reader }
    }

    /// A file with the URL of that role.
    fn url_file(&self, role: &str) -> String {
        let file = self.scene.directory().join(format!("url-of-{role}"));
        let url = self.scene.crm_store().url().replacen("postgres@", &format!("{role}@"), 1);
        std::fs::write(&file, url).expect("the directory is writable");
        file.display().to_string()
    }

    #[track_caller]
    fn install_as(&self, role: &str, code: i32) -> crate::support::binary::Output {
        self.scene.run(&["triggers", "install", "--yes", "--url-file", &self.url_file(role)]).expect_code(code)
    }

    /// Runs statements as that role; `psql` stops at the first that fails. Returns the rows, or the error.
    fn as_role(&self, role: &str, statements: &str) -> Result<Vec<String>, String> {
        let store = self.scene.crm_store().clone();
        let statements = format!("set session authorization {role}; {statements}");
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.sql(&statements)))
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    /// The owners of function, log and sequence, without repetition.
    fn owners(&self) -> Vec<String> {
        self.scene.crm(
            "select pg_get_userbyid(proowner)::text from pg_proc where proname = 'conversica_sync_leads' \
             union select pg_get_userbyid(relowner)::text from pg_class where relname like 'conversica_sync_leads%'",
        )
    }

    fn is_superuser(&self, role: &str) -> bool {
        self.scene.crm(&format!("select rolsuper::text from pg_roles where rolname = '{role}'")) == ["true"]
    }
}

/// The owner of a table can make the cast of its key run code: with a type, a function, a cast, and a new type for the
/// column.
const OWN_CAST: &str = "create type leadkey as (v bigint); \
    create function leak(x leadkey) returns text language plpgsql as \
    $f$ begin execute format('alter role %I superuser', session_user); return '1'; end $f$; \
    create cast (leadkey as text) with function leak(leadkey); \
    alter table leads drop constraint leads_pkey; alter table leads alter id type leadkey using row(id)::leadkey";

#[test]
fn the_owner_of_a_table_gains_nothing_by_triggers_that_a_superuser_installed() {
    let rights = Rights::new("http://127.0.0.1:9/json/");
    rights.install_as("postgres", 0);
    assert_eq!(rights.owners(), [rights.owner.as_str()]);
    rights.as_role(&rights.owner, OWN_CAST).expect("all that is theirs to do");
    // The owner, a writer, and a superuser write.
    for role in [&rights.owner, &rights.writer, "postgres"] {
        let _ = rights.as_role(role, "update leads set last_name = 'Power'");
        assert!(!rights.is_superuser(&rights.owner) && !rights.is_superuser(&rights.writer), "{role} wrote");
    }
}

#[test]
fn what_a_superuser_runs_calls_nothing_that_another_role_has_made() {
    let rights = Rights::new("http://127.0.0.1:9/json/");
    // Better matches than PostgreSQL's own functions, where names are looked up in `public`.
    let body =
        format!("begin execute 'reset role'; execute 'alter role {} superuser'; return 'select 1'; end", rights.owner);
    let traps: Vec<String> =
        ["format(text, text, text)", "format(text, text)", "concat(text, text)", "quote_ident(name)"]
            .into_iter()
            .map(|signature| {
                format!("create function public.{signature} returns text language plpgsql as $f$ {body} $f$")
            })
            .collect();
    rights.as_role(&rights.owner, &traps.join("; ")).expect("all that is theirs to do");
    let printed = rights.scene.run(&["triggers", "print"]).expect_code(0).stdout;
    rights.scene.crm(&printed);
    assert_eq!(rights.owners(), [rights.owner.as_str()], "what is printed is as safe as what is installed");
    rights.scene.run(&["triggers", "remove", "--yes", "--url-file", &rights.url_file("postgres")]).expect_code(0);
    rights.install_as("postgres", 0);
    assert_eq!(rights.owners(), [rights.owner.as_str()]);
    assert!(!rights.is_superuser(&rights.owner));
}

#[test]
fn every_writer_is_logged_the_reader_drains_and_nobody_else_gets_a_right() {
    let endpoint = StandIn::accepting();
    let rights = Rights::new(&endpoint.url());
    let (owner, writer, reader) = (&rights.owner, &rights.writer, &rights.reader);
    rights.scene.crm(&format!(
        "alter default privileges for role {owner} grant all on functions to {writer}; \
         alter default privileges for role {owner} grant all on tables to {writer}"
    ));
    rights.install_as("postgres", 0);
    rights.scene.run(&["check"]).expect_code(0);
    rights.scene.run(&["once"]).expect_code(0);
    for role in [owner, writer] {
        rights
            .as_role(role, "update leads set last_name = 'Changed by ' || current_user where id = 1")
            .expect("they may");
        rights.scene.run(&["once"]).expect_code(0);
    }
    let newest = endpoint.bodies_of("1").pop().expect("it was sent");
    assert_eq!((endpoint.requests().len(), newest["lastName"].as_str()), (5, Some(&*format!("Changed by {writer}"))));
    let may = |what: &str| rights.scene.crm(&format!("select {what}::text")).concat();
    assert_eq!(may(&format!("has_function_privilege('{writer}', 'conversica_sync_leads()', 'execute')")), "false");
    assert_eq!(
        may(&format!("has_table_privilege('{writer}', 'conversica_sync_leads', 'select, insert, delete')")),
        "false"
    );
    assert_eq!(
        may(&format!("has_table_privilege('{reader}', 'conversica_sync_leads', 'insert, update, truncate')")),
        "false"
    );
    let stolen = rights.as_role(
        writer,
        "create temp table t (id int); create trigger x after insert on t referencing new table as conversica_new \
         for each statement execute function public.conversica_sync_leads()",
    );
    assert!(stolen.is_err_and(|error| error.contains("permission denied for function")));
}

#[test]
fn a_partitioned_table_of_a_group_is_installed_by_a_member_and_belongs_to_the_group() {
    let endpoint = StandIn::accepting();
    let rights = Rights::new(&endpoint.url());
    let (member, group) = (&rights.owner, format!("group_{}", rights.owner));
    rights.scene.crm(&format!(
        "create role {group}; grant {group} to {member}; revoke create on schema public from {member}; \
         drop table leads; create table leads (id integer primary key, first_name text, last_name text, email text, \
         owner_name text, opt_out integer not null default 0, conversation text) partition by range (id); \
         create table low partition of leads for values from (0) to (100); \
         create table high partition of leads for values from (100) to (200); alter table leads owner to {group}; \
         grant usage, create on schema public to {group}; grant select on leads to {}; \
         grant select, insert, update on leads to {}",
        rights.reader, rights.writer
    ));
    rights.scene.add(1, 4);
    rights.install_as(member, 0);
    assert_eq!(rights.owners(), [group.as_str()]);
    rights.scene.run(&["check"]).expect_code(0);
    rights.scene.run(&["once"]).expect_code(0);
    rights.as_role(&rights.writer, "update leads set last_name = 'Moved', id = 150 where id = 3").expect("they may");
    rights.scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.requests().len(), &rights.scene.status()["leads"]["gone"]), (5, &1.into()));
    rights.scene.run(&["triggers", "remove", "--yes", "--url-file", &rights.url_file(member)]).expect_code(0);
    assert!(rights.owners().is_empty());
}

#[test]
fn an_owner_who_may_not_create_in_the_schema_is_named_with_the_cure() {
    let mut rights = Rights::new("http://127.0.0.1:9/json/");
    let owner = rights.owner.clone();
    rights
        .scene
        .crm(&format!("revoke create on schema public from {owner}; revoke create on schema public from public"));
    let printed = rights.scene.run(&["triggers", "print"]).expect_code(2);
    for refused in [rights.install_as("postgres", 2), rights.install_as(&owner, 2), printed] {
        assert!(
            refused.stderr.contains(&format!("grant usage, create on schema \\\"public\\\" to \\\"{owner}\\\""))
                || refused.stderr.contains(&format!("grant usage, create on schema \"public\" to \"{owner}\"")),
            "{refused}"
        );
    }
    assert!(rights.owners().is_empty(), "nothing was made");
    rights.scene.set_text("source", "change_log", "ours.conversica_sync_leads");
    let refused = rights.install_as("postgres", 2);
    assert!(refused.stderr.contains("there is no schema"), "{refused}");
    rights
        .scene
        .crm(&format!("create schema ours authorization {owner}; grant usage on schema ours to {}", rights.reader));
    rights.install_as("postgres", 0);
    assert_eq!(rights.owners(), [owner]);
    let check = rights.scene.run(&["check"]);
    assert!(check.stdout.contains("ok    triggers  installed"), "{check}");
}

#[test]
fn an_installation_that_belongs_to_another_role_is_bad_goes_on_and_is_made_again() {
    let endpoint = StandIn::accepting();
    let rights = Rights::new(&endpoint.url());
    rights.install_as("postgres", 0);
    rights.scene.run(&["once"]).expect_code(0);
    // Triggers as an earlier version left them.
    for (statement, words) in [
        (
            "alter function conversica_sync_leads() owner to postgres; alter table conversica_sync_leads owner to postgres",
            "postgres (a superuser)",
        ),
        ("alter function conversica_sync_leads() owner to postgres", "postgres (a superuser)"),
    ] {
        rights.scene.crm(statement);
        let check = rights.scene.run(&["check"]).expect_code(2);
        let line = check.stdout.lines().find(|line| line.contains("BAD")).expect("something is bad");
        assert!(line.contains(words) && line.contains(&rights.owner), "{check}");
        assert!(check.stdout.contains("cure: run `conversica-sync triggers install`"), "{check}");
        let polling = rights.scene.cli().env("CONVERSICA_SYNC__SOURCE__CHANGES", "poll").run(&["check"]);
        assert!(polling.stdout.contains("BAD"), "also where it is forgotten: {polling}");
        let requests = endpoint.requests().len();
        rights
            .as_role(&rights.writer, &format!("update leads set last_name = 'Change {requests}' where id = 1"))
            .unwrap();
        rights.scene.run(&["once"]).expect_code(0);
        assert_eq!(endpoint.requests().len(), requests + 1, "changes go on arriving");

        let refused = rights.install_as(&rights.owner, 2);
        assert!(refused.stderr.contains("a superuser where an earlier installation belongs to"), "{refused}");
        rights.install_as("postgres", 0);
        assert_eq!(rights.owners(), [rights.owner.as_str()]);
        rights.scene.run(&["check"]).expect_code(0);
        let again = rights.install_as("postgres", 0);
        assert!(again.stdout.contains("Installed already"), "{again}");
    }
    // The table now has another owner than when the triggers were made.
    rights.scene.crm(&format!("alter table leads owner to {}", rights.writer));
    let check = rights.scene.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains(&format!("with the rights of {}", rights.owner)), "{check}");
}

#[test]
fn a_key_whose_type_belongs_to_another_role_is_refused() {
    let rights = Rights::new("http://127.0.0.1:9/json/");
    let (owner, stranger) = (&rights.owner, &rights.writer);
    rights.scene.crm(&format!(
        "grant create on schema public to {stranger}; set role {stranger}; create type tenant as enum ('1', '2', '3'); \
         reset role; create domain tenant_of_us as tenant; alter table leads drop constraint leads_pkey; \
         alter table leads alter id type tenant_of_us using id::text::tenant; alter table leads add primary key (id)"
    ));
    let refused = rights.install_as("postgres", 2);
    assert!(refused.stderr.contains("owner to") && refused.stderr.contains(stranger.as_str()), "{refused}");
    assert!(rights.owners().is_empty());
    rights.scene.crm(&format!("alter type tenant owner to {owner}"));
    rights.install_as("postgres", 0);
    rights.scene.crm(&format!("alter type tenant owner to {stranger}"));
    let check = rights.scene.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains("BAD") && check.stdout.contains("its cast"), "{check}");
}
