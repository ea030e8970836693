//! The statements that make and remove change log and triggers. Pure: text in, text out.
//!
//! The program runs exactly the script that it shows, and later compares the database with that text.

use crate::db::quote;
use crate::source::changes::triggered::{LoggedKeys, TriggeredTable};

pub use crate::source::changes::triggered::{ListenerWake, QualifiedName, SourceEngine};

/// A trigger on any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerName {
    pub table: QualifiedName,
    pub name: String,
}

/// Triggers and functions that fill the log, and that these settings do not ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriggerRemains {
    pub triggers: Vec<TriggerName>,
    /// PostgreSQL.
    pub functions: Vec<QualifiedName>,
}

impl TriggerRemains {
    pub fn is_empty(&self) -> bool {
        self.triggers.is_empty() && self.functions.is_empty()
    }
}

/// The tables that the triggers watch, and the log that they fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerDesign {
    pub engine: SourceEngine,
    /// The table of the leads first, if there is one; then those of `[[source.watch]]`. At least one.
    pub tables: Vec<TriggeredTable>,
    /// PostgreSQL: the role that owns the tables, and has to own functions and log as well. `None` where a table is gone.
    pub owner: Option<String>,
    pub log: QualifiedName,
    /// Whether the log names clients.
    pub clients: LogClients,
}

/// Whether a lead is named by its key alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogClients {
    KeyAlone,
    WithClient,
}

/// The events of the triggers; only PostgreSQL has TRUNCATE.
const EVENTS: [&str; 4] = ["insert", "update", "delete", "truncate"];
/// PostgreSQL truncates names to this many bytes. The longest name that we derive adds this suffix to the log's name.
const NAME_BYTES: usize = 63;
const LONGEST_SUFFIX: &str = "_truncate";

/// The suffix of the names for the entry of `[[source.watch]]` of that number.
pub fn watch_suffix(number: usize) -> String {
    format!("{WATCH_SUFFIX}{}", number + 1)
}

/// Begins such a suffix.
pub const WATCH_SUFFIX: &str = "_watch";

/// The longest name for a log with that many watched tables: PostgreSQL would truncate longer derived names.
pub fn log_name_bytes(watches: usize) -> usize {
    let suffix = if watches == 0 { 0 } else { watch_suffix(watches - 1).len() };
    NAME_BYTES - LONGEST_SUFFIX.len() - suffix
}

/// The columns of a log; they identify a table as our log.
pub const COLUMNS: [&str; 4] = ["seq", "key", "client", "at"];
/// A setting of the function: floating-point keys are logged to the last bit, however the CRM's session writes them.
pub const EXACT_FLOATS: &str = "extra_float_digits = 1";
/// Quotes the text of a function.
pub const DOLLARS: &str = "$conversica_sync$";
/// The longest wait for the lock on the table: while the script waits, writers to the table wait behind it.
const LOCK_TIMEOUT: &str = "10s";

impl TriggerDesign {
    /// The channel that the triggers notify.
    pub fn channel(&self) -> &str {
        &self.log.name
    }

    /// The sequence that PostgreSQL makes for the log's numbers; [`log_name_bytes`] leaves room for its name too.
    pub fn sequence(&self) -> QualifiedName {
        QualifiedName { schema: self.log.schema.clone(), name: format!("{}_seq_seq", self.log.name) }
    }

    /// The tables' names in SQL, for messages.
    pub fn place(&self) -> String {
        let names: Vec<String> = self.tables.iter().map(|one| one.table.quoted()).collect();
        names.join(", ")
    }

    /// Names of the triggers of a table, sorted.
    pub fn trigger_names(&self, of: &TriggeredTable) -> Vec<String> {
        let mut names: Vec<String> = self.events().map(|event| self.trigger_name(of, event)).collect();
        names.sort();
        names
    }

    /// PostgreSQL: the function that the triggers of a table call.
    pub fn function(&self, of: &TriggeredTable) -> QualifiedName {
        self.log.with_suffix(&of.suffix)
    }

    /// The number of the log's key columns that the source fills.
    pub fn width(&self) -> usize {
        match self.clients {
            LogClients::KeyAlone => 1,
            LogClients::WithClient => 2,
        }
    }

    fn events(&self) -> impl Iterator<Item = &'static str> {
        let events = match self.engine {
            SourceEngine::Sqlite => &EVENTS[..3],
            SourceEngine::Postgres => &EVENTS[..],
        };
        events.iter().copied()
    }

    fn trigger_name(&self, of: &TriggeredTable, event: &str) -> String {
        format!("{}{}_{event}", self.log.name, of.suffix)
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
                for one in &self.tables {
                    let function = self.function(one).quoted();
                    statements.push(format!(
                        "create function {function}() returns trigger language plpgsql security definer\n  \
                         set search_path = {}\n  set datestyle = 'ISO, YMD'\n  set intervalstyle = 'iso_8601'\n  \
                         set timezone = 'UTC'\n  set {EXACT_FLOATS}\nas {DOLLARS}{}{DOLLARS}",
                        one.search_path(),
                        self.function_body(one, wake)
                    ));
                }
                statements.push(self.revoke());
                for one in &self.tables {
                    statements.push(format!("revoke all on function {}() from public", self.function(one).quoted()));
                    statements.extend(self.events().map(|event| self.postgres_trigger(one, event)));
                }
                statements.extend(reader.map(|reader| self.grant(reader)));
            }
        }
        // A new log begins with "anything may have changed": the poll then searches once for changes from before the triggers.
        statements.push(format!("insert into {log} (key) values (null)"));
        script(statements)
    }

    /// Creates everything again, in one transaction; the full compare that follows finds the changes that waited in the log.
    /// `remains` are other triggers that would keep a function, and functions of earlier settings.
    pub fn replace(&self, reader: Option<&str>, wake: ListenerWake, remains: &TriggerRemains) -> String {
        let begin = self.begin();
        let remove = self.drops(remains);
        let install = self.install(reader, wake);
        let install = install.strip_prefix(&lines(&begin)).unwrap_or(&install).to_owned();
        format!("{}{install}", lines(&[begin, remove].concat()))
    }

    pub fn remove(&self, remains: &TriggerRemains) -> String {
        script([self.begin(), self.drops(remains)].concat())
    }

    /// The function runs with its owner's rights and calls the CRM's casts: the owner of the table can define a type and a cast
    /// for its key. So function and log belong to the table's owner, even if a superuser runs the script.
    fn become_owner(&self) -> Option<String> {
        self.owner.as_ref().map(|owner| format!("set local role {}", quote(owner)))
    }

    /// Revokes the rights that the owner's default privileges grant others on every new table and function.
    fn revoke(&self) -> String {
        let log = self.log.quoted().replace('\'', "''");
        let functions: Vec<String> = self
            .tables
            .iter()
            .map(|one| format!("'{}()'::regprocedure", self.function(one).quoted().replace('\'', "''")))
            .collect();
        let functions = match functions.as_slice() {
            [one] => format!("= {one}"),
            several => format!("in ({})", several.join(", ")),
        };
        format!(
            "do $conversica_sync$\ndeclare\n  statement text;\nbegin\n  for statement in\n    select distinct format('revoke \
             all on %s from %s', o.object, case a.grantee when 0 then 'public' else \
             quote_ident(pg_get_userbyid(a.grantee)) end)\n    from (select case c.relkind when 'S' then 'sequence ' else \
             'table ' end || c.oid::regclass as object, c.relacl as acl, c.relowner as owner from pg_class c\n      where \
             c.oid in ('{log}'::regclass, pg_get_serial_sequence('{log}', 'seq')::regclass)\n      union all select \
             'function ' || p.oid::regprocedure, p.proacl, p.proowner from pg_proc p where p.oid \
             {functions}) o\n    cross join aclexplode(o.acl) a where a.grantee <> o.owner\n  loop\n    \
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

    fn drops(&self, remains: &TriggerRemains) -> Vec<String> {
        let mut statements: Vec<String> = Vec::new();
        for one in &self.tables {
            let on = match self.engine {
                SourceEngine::Sqlite => String::new(),
                SourceEngine::Postgres => format!(" on {}", one.table.quoted()),
            };
            statements.extend(
                self.events()
                    .map(|event| format!("drop trigger if exists {}{on}", quote(&self.trigger_name(one, event)))),
            );
        }
        statements.extend(remains.triggers.iter().map(|stray| match self.engine {
            SourceEngine::Sqlite => format!("drop trigger if exists {}", quote(&stray.name)),
            SourceEngine::Postgres => {
                format!("drop trigger if exists {} on {}", quote(&stray.name), stray.table.quoted())
            }
        }));
        if self.engine == SourceEngine::Postgres {
            let functions = self.tables.iter().map(|one| self.function(one)).chain(remains.functions.iter().cloned());
            statements.extend(functions.map(|function| format!("drop function if exists {}()", function.quoted())));
        }
        statements.push(format!("drop table if exists {}", self.log.quoted()));
        statements
    }

    /// Each trigger's name and text.
    pub fn sqlite_triggers(&self) -> Vec<(String, String)> {
        let log = self.log.quoted();
        let trigger = |one: &TriggeredTable, event: &str| {
            let name = self.trigger_name(one, event);
            let body = one.sqlite_body(event, &log, self.width());
            let sql =
                format!("CREATE TRIGGER {} after {event} on {}\nbegin\n{body}end", quote(&name), one.table.quoted());
            (name, sql)
        };
        self.tables.iter().flat_map(|one| self.events().map(move |event| trigger(one, event))).collect()
    }

    fn postgres_trigger(&self, on: &TriggeredTable, event: &str) -> String {
        let referencing = match event {
            "insert" => "referencing new table as conversica_new ",
            "update" => "referencing old table as conversica_old new table as conversica_new ",
            "delete" => "referencing old table as conversica_old ",
            _ => "",
        };
        format!(
            "create trigger {} after {event} on {} {referencing}for each statement execute function {}()",
            quote(&self.trigger_name(on, event)),
            on.table.quoted(),
            self.function(on).quoted()
        )
    }

    pub fn function_body(&self, of: &TriggeredTable, wake: ListenerWake) -> String {
        let wake = match wake {
            ListenerWake::Notify => format!(
                "  if found then\n    perform pg_catalog.pg_notify('{}', '');\n  end if;\n",
                self.channel().replace('\'', "''")
            ),
            ListenerWake::Silent => String::new(),
        };
        of.postgres_body(&self.log.quoted(), self.width(), &wake)
    }

    /// The columns of the table of the leads whose values are logged as they are: key, and client where there is one.
    pub fn key_columns(&self) -> Vec<&str> {
        let own = self.tables.iter().find_map(|one| match &one.keys {
            LoggedKeys::Own(columns) => Some(columns.iter().map(String::as_str).collect()),
            LoggedKeys::Found(_) => None,
        });
        own.unwrap_or_default()
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
            tables: vec![TriggeredTable {
                table: QualifiedName { schema: schema.clone(), name: "Odd \"leads\"".to_owned() },
                suffix: String::new(),
                keys: LoggedKeys::Own(vec!["id".to_owned(), "dealer id".to_owned()]),
            }],
            owner: (engine == SourceEngine::Postgres).then(|| "the \"owner\"".to_owned()),
            log: QualifiedName { schema, name: "it's a log".to_owned() },
            clients: LogClients::WithClient,
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
            let remains = TriggerRemains { triggers: vec![stray], functions: Vec::new() };
            let replace = design.replace(None, ListenerWake::Silent, &remains);
            let on = if engine == SourceEngine::Postgres { " on \"old\"" } else { "" };
            assert!(replace.contains(&format!("drop trigger if exists \"left\"{on};")), "{replace}");
            for script in
                [design.install(None, ListenerWake::Silent), design.remove(&TriggerRemains::default()), replace.clone()]
            {
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
        for script in [
            design.install(None, ListenerWake::Notify),
            design.replace(None, ListenerWake::Notify, &TriggerRemains::default()),
        ] {
            assert_eq!(script.matches(become_owner).count(), 1, "{script}");
            let at = |text: &str| script.find(text).unwrap();
            assert!(at("search_path") < at(become_owner) && at(become_owner) < at("create table"), "{script}");
            assert!(script.rfind("drop ").is_none_or(|drop| drop < at(become_owner)), "{script}");
        }
        assert!(!design.remove(&TriggerRemains::default()).contains("set local role"));
    }

    #[test]
    fn no_name_of_ours_is_cut_by_postgresql() {
        let mut design = design(SourceEngine::Postgres);
        for watches in [0, 1, 12] {
            design.tables[0].suffix = if watches == 0 { String::new() } else { watch_suffix(watches - 1) };
            design.log.name = "x".repeat(log_name_bytes(watches));
            let names = design.trigger_names(&design.tables[0]);
            assert!(names.iter().all(|name| name.len() <= NAME_BYTES), "{names:?}");
        }
    }
}
