//! Watched tables that an ordinary role owns: the queries run with that role's rights, for every writer, and no other role can
//! use them for itself.

use crate::support::engine::Engine;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

/// Two tables of one role; the program reads with a second role, a third one writes, and a fourth one has its own tables.
struct Roles {
    scene: Scene,
    owner: String,
    writer: String,
    other: String,
}

const QUERY: &str = "select o.id, c.first_name, c.last_name, c.email, o.owner_name, o.opt_out \
    from opportunities o join contacts c on c.id = o.contact_id";

impl Roles {
    fn new(endpoint: &str) -> Self {
        let mut scene = Scene::on(Engine::Postgres, endpoint, 0);
        let name = scene.crm("select current_database()").concat();
        let [owner, writer, other, reader] =
            ["owner", "writer", "other", "reader"].map(|role| format!("{role}_{name}"));
        scene.crm(&format!(
            "create role {owner} login; create role {writer} login; create role {other} login; create role {reader} login; \
             create table contacts (id integer primary key, first_name text, last_name text, email text); \
             create table opportunities (id integer primary key, contact_id integer, owner_name text, opt_out integer not null default 0); \
             insert into contacts values (1, 'Ann', 'Bell', 'ann@example.com'); insert into opportunities values (11, 1, 'Rae'); \
             alter table contacts owner to {owner}; alter table opportunities owner to {owner}; \
             grant usage, create on schema public to {owner}; grant select on contacts, opportunities to {reader}; \
             grant select, update, delete on contacts to {writer}"
        ));
        let url = scene.crm_store().url();
        scene.set("source", "table", "").set_text("source", "query", QUERY).set_text("source", "changes", "triggers");
        scene.set_text("source", "url", &url.replacen("postgres@", &format!("{reader}@"), 1));
        let mut roles = Self { scene, owner, writer, other };
        roles.watch("SELECT o.id FROM opportunities o WHERE o.contact_id = :id");
        roles
    }

    /// `leads` of the contacts.
    fn watch(&mut self, leads: &str) {
        let entries = format!(
            "[{{ table = \"opportunities\", leads = \"SELECT :id\" }}, {{ table = \"contacts\", leads = {leads:?} }}]"
        );
        self.scene.set("source", "watch", &entries);
    }

    #[track_caller]
    fn install(&self, code: i32) -> String {
        let url = self.scene.crm_store().url();
        let output = self.scene.cli().env("CONVERSICA_SYNC_OWNER_URL", &url).run(&["triggers", "install", "--yes"]);
        let output = output.expect_code(code);
        format!("{}{}", output.stdout, output.stderr)
    }
}

#[test]
fn a_writer_without_any_right_to_the_other_table_names_its_leads() {
    let endpoint = StandIn::accepting();
    let roles = Roles::new(&endpoint.url());
    roles.install(0);
    let owners = roles.scene.crm(
        "select pg_get_userbyid(proowner)::text from pg_proc where proname like 'conversica_sync%' \
         union select pg_get_userbyid(relowner)::text from pg_class where relname like 'conversica_sync%'",
    );
    assert_eq!(owners, [roles.owner.as_str()]);
    let callable = format!(
        "select count(*)::text from pg_proc where proname like 'conversica_sync%' \
         and has_function_privilege('{}', oid, 'execute')",
        roles.writer
    );
    assert_eq!(roles.scene.crm(&callable), ["0"]);
    let check = roles.scene.run(&["check"]).expect_code(0);
    assert!(check.stdout.contains("triggers  installed"), "{check}");
    roles.scene.run(&["once"]).expect_code(0);
    roles.scene.crm(&format!("set role {}; update contacts set last_name = 'Ball'; reset role", roles.writer));
    roles.scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("11").last().expect("it was sent")["lastName"], "Ball");
    assert_eq!(roles.scene.status()["last_poll"]["kind"], "incremental");
    roles.scene.crm(&format!("set role {}; delete from contacts; reset role", roles.writer));
    roles.scene.run(&["once"]).expect_code(0);
    assert_eq!(roles.scene.status()["leads"]["gone"], 1);
}

#[test]
fn names_are_not_looked_up_where_another_role_may_create_functions() {
    let mut roles = Roles::new("http://127.0.0.1:9/json/");
    roles.scene.crm(&format!("grant create on schema public to {}", roles.other));
    let refused = roles.install(2);
    let fault = format!("where {} may create functions that would run with the rights of", roles.other);
    assert!(refused.contains(&fault) && refused.contains("revoke create on schema \"public\""), "{refused}");
    roles.watch("SELECT o.id FROM public.opportunities o WHERE o.contact_id = :id");
    let installed = roles.install(0);
    assert!(installed.contains("set search_path = pg_catalog, pg_temp"), "{installed}");
    assert!(!installed.contains("\"public\", pg_temp"), "{installed}");
    // What is found later is BAD.
    roles.watch("SELECT o.id FROM opportunities o WHERE o.contact_id = :id");
    roles.scene.crm(&format!("revoke create on schema public from {}", roles.other));
    roles.install(0);
    roles.scene.crm("grant create on schema public to public");
    let check = roles.scene.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains("where public may create functions"), "{check}");
}

#[test]
fn tables_of_several_owners_and_what_the_owner_may_not_read_are_refused() {
    let mut roles = Roles::new("http://127.0.0.1:9/json/");
    roles.scene.crm(&format!(
        "create table links (id integer, contact integer); create view linked as select * from links; \
         grant select on links, linked to public; alter view linked owner to {}",
        roles.other
    ));
    roles.watch("SELECT id FROM linked WHERE contact = :id");
    let refused = roles.install(2);
    assert!(refused.contains("it reads linked, which belongs to"), "{refused}");
    roles.scene.crm("revoke select on links from public");
    roles.watch("SELECT id FROM links WHERE contact = :id");
    let refused = roles.install(2);
    assert!(refused.contains("it reads links, which") && refused.contains("may not read"), "{refused}");

    roles.watch("SELECT o.id FROM opportunities o WHERE o.contact_id = :id");
    roles.install(0);
    roles.scene.crm(&format!("alter table contacts owner to {}", roles.other));
    for command in ["check", "once"] {
        let refused = roles.scene.run(&[command]).expect_code(2);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("the triggers run with the rights of one role"), "{refused}");
        assert!(said.contains("alter table \"public\".\"contacts\" owner to"), "{refused}");
    }
}
