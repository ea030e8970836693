//! The statements that make and remove change log and triggers. Pure: text in, text out.
//!
//! The program runs exactly the script that it shows, and later compares the database with that text.

use crate::db::quote;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEngine {
    Sqlite,
    Postgres,
}

/// Whether the triggers notify listeners (PostgreSQL only; SQLite has no notifications).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerWake {
    Notify,
    /// The next poll finds the changes.
    Silent,
}

/// A table's name, qualified on PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualifiedName {
    pub schema: Option<String>,
    pub name: String,
}

impl QualifiedName {
    /// The name in SQL.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }
}

/// A trigger on any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerName {
    pub table: QualifiedName,
    pub name: String,
}

/// The table that the triggers watch, and the log that they fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerDesign {
    pub engine: SourceEngine,
    pub table: QualifiedName,
    /// PostgreSQL: the role that owns the table, and has to own function and log as well. `None` where the table is gone.
    pub owner: Option<String>,
    pub log: QualifiedName,
    pub key: String,
    pub client: Option<String>,
}

/// The events of the triggers; only PostgreSQL has TRUNCATE.
const EVENTS: [&str; 4] = ["insert", "update", "delete", "truncate"];
/// PostgreSQL truncates names to this many bytes. The longest name that we derive adds this suffix to the log's name.
const NAME_BYTES: usize = 63;
const LONGEST_SUFFIX: &str = "_truncate";

/// The longest name for a log: PostgreSQL would truncate longer derived names.
pub const LOG_NAME_BYTES: usize = NAME_BYTES - LONGEST_SUFFIX.len();
/// The columns of a log; they identify a table as our log.
pub const COLUMNS: [&str; 4] = ["seq", "key", "client", "at"];
/// A setting of the function: floating-point keys are logged to the last bit, however the CRM's session writes them.
pub const EXACT_FLOATS: &str = "extra_float_digits = 1";
/// The longest wait for the lock on the table: while the script waits, writers to the table wait behind it.
const LOCK_TIMEOUT: &str = "10s";

impl TriggerDesign {
    /// The channel that the triggers notify.
    pub fn channel(&self) -> &str {
        &self.log.name
    }

    /// The sequence that PostgreSQL makes for the log's numbers; `LOG_NAME_BYTES` leaves room for its name too.
    pub fn sequence(&self) -> QualifiedName {
        QualifiedName { schema: self.log.schema.clone(), name: format!("{}_seq_seq", self.log.name) }
    }

    /// Names of the triggers, sorted.
    pub fn trigger_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.events().map(|event| self.trigger_name(event)).collect();
        names.sort();
        names
    }

    fn events(&self) -> impl Iterator<Item = &'static str> {
        let events = match self.engine {
            SourceEngine::Sqlite => &EVENTS[..3],
            SourceEngine::Postgres => &EVENTS[..],
        };
        events.iter().copied()
    }

    fn trigger_name(&self, event: &str) -> String {
        format!("{}_{event}", self.log.name)
    }

    /// The whole script, in one transaction. `reader` is the role that drains the log (PostgreSQL).
    pub fn install(&self, reader: Option<&str>, wake: ListenerWake) -> String {
        let log = self.log.quoted();
        let mut statements = self.begin();
        match self.engine {
            SourceEngine::Sqlite => {
                // No AUTOINCREMENT: its table `sqlite_sequence` could never be removed again.
                statements.push(format!("create table {log} (seq integer primary key, key, client, at)"));
                statements.extend(self.sqlite_triggers().into_iter().map(|(_, sql)| sql));
            }
            SourceEngine::Postgres => {
                statements.extend(self.become_owner());
                statements.push(format!(
                    "create table {log} (\n  seq bigint generated always as identity primary key,\n  key text,\n  \
                     client text,\n  at timestamptz not null default statement_timestamp()\n)"
                ));
                statements.push(format!(
                    "create function {log}() returns trigger language plpgsql security definer\n  \
                     set search_path = pg_catalog, pg_temp\n  set datestyle = 'ISO, YMD'\n  \
                     set intervalstyle = 'iso_8601'\n  set timezone = 'UTC'\n  set {EXACT_FLOATS}\nas $conversica_sync${}$conversica_sync$",
                    self.function_body(wake)
                ));
                statements.push(self.revoke());
                statements.push(format!("revoke all on function {log}() from public"));
                statements.extend(self.events().map(|event| self.postgres_trigger(event)));
                statements.extend(reader.map(|reader| self.grant(reader)));
            }
        }
        // A new log begins with "anything may have changed": the poll then searches once for changes from before the triggers.
        statements.push(format!("insert into {log} (key) values (null)"));
        script(statements)
    }

    /// Creates everything again, in one transaction; the full compare that follows finds the changes that waited in the log.
    /// `elsewhere` are triggers on other tables that would keep the function.
    pub fn replace(&self, reader: Option<&str>, wake: ListenerWake, elsewhere: &[TriggerName]) -> String {
        let begin = self.begin();
        let remove = self.drops(elsewhere);
        let install = self.install(reader, wake);
        let install = install.strip_prefix(&lines(&begin)).unwrap_or(&install).to_owned();
        format!("{}{install}", lines(&[begin, remove].concat()))
    }

    pub fn remove(&self, elsewhere: &[TriggerName]) -> String {
        script([self.begin(), self.drops(elsewhere)].concat())
    }

    /// The function runs with its owner's rights and calls the CRM's casts: the owner of the table can define a type and a cast
    /// for its key. So function and log belong to the table's owner, even if a superuser runs the script.
    fn become_owner(&self) -> Option<String> {
        self.owner.as_ref().map(|owner| format!("set local role {}", quote(owner)))
    }

    /// Revokes the rights that the owner's default privileges grant others on every new table and function.
    fn revoke(&self) -> String {
        let log = self.log.quoted().replace('\'', "''");
        format!(
            "do $conversica_sync$\ndeclare\n  statement text;\nbegin\n  for statement in\n    select distinct format('revoke \
             all on %s from %s', o.object, case a.grantee when 0 then 'public' else \
             quote_ident(pg_get_userbyid(a.grantee)) end)\n    from (select case c.relkind when 'S' then 'sequence ' else \
             'table ' end || c.oid::regclass as object, c.relacl as acl, c.relowner as owner from pg_class c\n      where \
             c.oid in ('{log}'::regclass, pg_get_serial_sequence('{log}', 'seq')::regclass)\n      union all select \
             'function ' || p.oid::regprocedure, p.proacl, p.proowner from pg_proc p where p.oid = \
             '{log}()'::regprocedure) o\n    cross join aclexplode(o.acl) a where a.grantee <> o.owner\n  loop\n    \
             execute statement;\n  end loop;\nend\n$conversica_sync$"
        )
    }

    /// Grants the rights that the reader of the log needs, and no others.
    pub fn grant(&self, reader: &str) -> String {
        format!("grant select, delete on {} to {}", self.log.quoted(), quote(reader))
    }

    fn begin(&self) -> Vec<String> {
        match self.engine {
            SourceEngine::Sqlite => vec!["begin immediate".to_owned()],
            SourceEngine::Postgres => vec![
                "begin".to_owned(),
                format!("set local lock_timeout = '{LOCK_TIMEOUT}'"),
                // All names below are qualified, so that no function of another role can take the place of PostgreSQL's own.
                "set local search_path = pg_catalog, pg_temp".to_owned(),
            ],
        }
    }

    fn drops(&self, elsewhere: &[TriggerName]) -> Vec<String> {
        let (table, log) = (self.table.quoted(), self.log.quoted());
        let on = match self.engine {
            SourceEngine::Sqlite => String::new(),
            SourceEngine::Postgres => format!(" on {table}"),
        };
        let mut statements: Vec<String> = self
            .events()
            .map(|event| format!("drop trigger if exists {}{on}", quote(&self.trigger_name(event))))
            .collect();
        let strays = elsewhere.iter();
        statements.extend(
            strays.map(|stray| format!("drop trigger if exists {} on {}", quote(&stray.name), stray.table.quoted())),
        );
        if self.engine == SourceEngine::Postgres {
            statements.push(format!("drop function if exists {log}()"));
        }
        statements.push(format!("drop table if exists {log}"));
        statements
    }

    /// Each trigger's name and text.
    pub fn sqlite_triggers(&self) -> Vec<(String, String)> {
        let (table, log) = (self.table.quoted(), self.log.quoted());
        let key_columns = self.key_columns();
        let now = "cast(strftime('%s', 'now') as integer)";
        let into = format!("insert into {log} (key, {}at)", if self.client.is_some() { "client, " } else { "" });
        let of = |row: &str| {
            let values: Vec<String> = key_columns.iter().map(|column| format!("{row}.{}", quote(column))).collect();
            format!("{}, {now}", values.join(", "))
        };
        // As text and byte by byte, as the program distinguishes leads: the column itself may treat A and a, or 1 and 1.0, as
        // equal.
        let text = |row: &str, column: &str| format!("cast({row}.{} as text) collate binary", quote(column));
        let moved: Vec<String> = key_columns
            .iter()
            .map(|column| format!("{} is not {}", text("old", column), text("new", column)))
            .collect();
        let body = |event: &str| match event {
            "insert" => format!("  {into} values ({});\n", of("new")),
            "update" => format!(
                "  {into} values ({});\n  {into} select {} where {};\n",
                of("new"),
                of("old"),
                moved.join(" or ")
            ),
            _ => format!("  {into} values ({});\n", of("old")),
        };
        let trigger = |event: &str| {
            let name = self.trigger_name(event);
            let sql = format!("CREATE TRIGGER {} after {event} on {table}\nbegin\n{}end", quote(&name), body(event));
            (name, sql)
        };
        self.events().map(trigger).collect()
    }

    fn postgres_trigger(&self, event: &str) -> String {
        let referencing = match event {
            "insert" => "referencing new table as conversica_new ",
            "update" => "referencing old table as conversica_old new table as conversica_new ",
            "delete" => "referencing old table as conversica_old ",
            _ => "",
        };
        format!(
            "create trigger {} after {event} on {} {referencing}for each statement execute function {}()",
            quote(&self.trigger_name(event)),
            self.table.quoted(),
            self.log.quoted()
        )
    }

    /// One insert per statement, however many rows it touched. Keys are stored as text, as in the state: the column's type may
    /// change later, and text stays exact where the type treats A and a, or 1.0 and 1, as equal.
    pub fn function_body(&self, wake: ListenerWake) -> String {
        let log = self.log.quoted();
        let columns = if self.client.is_some() { "key, client" } else { "key" };
        let values: Vec<String> =
            self.key_columns().iter().map(|column| format!("{}::text collate \"C\"", quote(column))).collect();
        let values = values.join(", ");
        let into = format!("insert into {log} ({columns}) select {values} from");
        let wake = match wake {
            ListenerWake::Notify => format!(
                "  if found then\n    perform pg_catalog.pg_notify('{}', '');\n  end if;\n",
                self.channel().replace('\'', "''")
            ),
            ListenerWake::Silent => String::new(),
        };
        format!(
            "\nbegin\n  if tg_op = 'INSERT' then\n    {into} conversica_new;\n  elsif tg_op = 'UPDATE' then\n    {into} \
             conversica_new\n      union select {values} from conversica_old;\n  elsif tg_op = 'DELETE' then\n    {into} \
             conversica_old;\n  else\n    insert into {log} (key) values (null);\n  end if;\n{wake}  return null;\nend\n"
        )
    }

    /// Key, and client where there is one.
    pub fn key_columns(&self) -> Vec<&str> {
        std::iter::once(self.key.as_str()).chain(self.client.as_deref()).collect()
    }
}

fn script(mut statements: Vec<String>) -> String {
    statements.push("commit".to_owned());
    lines(&statements)
}

fn lines(statements: &[String]) -> String {
    statements.iter().map(|statement| format!("{statement};\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(engine: SourceEngine) -> TriggerDesign {
        let schema = (engine == SourceEngine::Postgres).then(|| "crm".to_owned());
        TriggerDesign {
            engine,
            table: QualifiedName { schema: schema.clone(), name: "Odd \"leads\"".to_owned() },
            owner: (engine == SourceEngine::Postgres).then(|| "the \"owner\"".to_owned()),
            log: QualifiedName { schema, name: "it's a log".to_owned() },
            key: "id".to_owned(),
            client: Some("dealer id".to_owned()),
        }
    }

    #[test]
    fn whatever_the_names_are_they_are_quoted() {
        let script = design(SourceEngine::Postgres).install(Some("the \"reader\""), ListenerWake::Notify);
        assert!(script.contains(r#"create table "crm"."it's a log" ("#), "{script}");
        assert!(script.contains("pg_notify('it''s a log', '')"), "{script}");
        assert!(script.contains(r#"on "crm"."it's a log" to "the ""reader""""#), "{script}");
        assert!(
            script.contains(r#"select "id"::text collate "C", "dealer id"::text collate "C" from conversica_new"#),
            "{script}"
        );
        let script = design(SourceEngine::Sqlite).install(None, ListenerWake::Notify);
        assert!(script.contains(r#"after insert on "Odd ""leads""""#), "{script}");
        assert!(script.contains(r#"values (new."id", new."dealer id", "#), "{script}");
    }

    #[test]
    fn everything_happens_in_one_transaction_and_replacing_is_removing_and_installing() {
        for engine in [SourceEngine::Sqlite, SourceEngine::Postgres] {
            let design = design(engine);
            let stray =
                TriggerName { table: QualifiedName { schema: None, name: "old".to_owned() }, name: "left".to_owned() };
            let replace = design.replace(None, ListenerWake::Silent, std::slice::from_ref(&stray));
            assert!(replace.contains("drop trigger if exists \"left\" on \"old\";"), "{replace}");
            for script in [design.install(None, ListenerWake::Silent), design.remove(&[]), replace.clone()] {
                assert!(script.starts_with("begin") && script.ends_with("commit;\n"), "{script}");
                assert_eq!(script.matches("commit;").count(), 1, "{script}");
                assert_eq!(
                    script.matches("begin;").count() + script.matches("begin immediate;").count(),
                    1,
                    "{script}"
                );
            }
            assert!(replace.find("drop table").unwrap() < replace.find("create table").unwrap(), "{replace}");
            assert!(!replace.contains("pg_notify"), "{replace}");
        }
    }

    #[test]
    fn everything_is_made_as_the_owner_and_removed_as_whoever_runs_it() {
        let design = design(SourceEngine::Postgres);
        let become_owner = "set local role \"the \"\"owner\"\"\";";
        for script in [design.install(None, ListenerWake::Notify), design.replace(None, ListenerWake::Notify, &[])] {
            assert_eq!(script.matches(become_owner).count(), 1, "{script}");
            let at = |text: &str| script.find(text).unwrap();
            assert!(at("search_path") < at(become_owner) && at(become_owner) < at("create table"), "{script}");
            assert!(script.rfind("drop ").is_none_or(|drop| drop < at(become_owner)), "{script}");
        }
        assert!(!design.remove(&[]).contains("set local role"));
    }

    #[test]
    fn no_name_of_ours_is_cut_by_postgresql() {
        let mut design = design(SourceEngine::Postgres);
        design.log.name = "x".repeat(LOG_NAME_BYTES);
        assert!(design.trigger_names().iter().all(|name| name.len() <= NAME_BYTES));
    }
}
