//! Rules for the proposals for any small database with staff and a deletion mark: `init` never reads leads from the table
//! of staff, and no row that is marked deleted is a lead, at any level of inheritance.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::support::crms;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use conversica_sync::setup::introspect;
use conversica_sync::setup::propose::proposal::{OperatorWishes, RowsPlace, SourceProposal};
use conversica_sync::setup::propose::{SqlDialect, propose, rank};
use conversica_sync::source::source_db::SourceDb;

/// A deletion mark: name, type, the value of a present row, and of a deleted one.
type Mark = (&'static str, &'static str, &'static str, &'static str);

const MARKS: [Mark; 10] = [
    ("is_deleted", "boolean", "FALSE", "TRUE"),
    ("deleted", "integer", "0", "1"),
    ("deleted", "varchar(5)", "'no'", "'yes'"),
    ("deleted_at", "timestamp", "null", "'2026-01-01 00:00:00'"),
    ("\"deletedAt\"", "timestamp", "null", "'2026-01-01 00:00:00'"),
    ("trashed", "boolean", "null", "TRUE"),
    ("archived", "smallint", "0", "1"),
    ("active", "boolean", "TRUE", "FALSE"),
    ("supprime", "integer", "0", "1"),
    ("geloescht", "varchar(5)", "'nein'", "'ja'"),
];

#[derive(Debug, Clone)]
struct Shape {
    staff: &'static str,
    login: Option<&'static str>,
    leads: &'static str,
    /// 0: the table itself has all columns.
    parents: usize,
    mark: Mark,
    mark_level: usize,
    email_level: usize,
    /// Whether the key of a child has its parent's name, or Django's.
    is_django: bool,
    has_owner: bool,
    /// One value for each row.
    deleted: Vec<bool>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let names = select(vec!["users", "auth_user", "employee", "sales_reps", "staff", "agents", "members_of_staff"]);
    let logins = select(vec![None, Some("password"), Some("last_login_x, is_superuser"), Some("password_hash")]);
    let leads = select(vec!["leads", "prospect", "crm_contact", "customers"]);
    let levels = (0..3_usize, select(MARKS.to_vec()), 0..3_usize, 0..3_usize);
    (names, logins, leads, levels, any::<bool>(), any::<bool>(), vec(any::<bool>(), 3..7)).prop_map(
        |(staff, login, leads, (parents, mark, mark_level, email_level), is_django, has_owner, deleted)| Shape {
            staff,
            login,
            leads,
            parents,
            mark,
            mark_level: mark_level.min(parents),
            email_level: email_level.min(parents),
            is_django,
            has_owner,
            deleted,
        },
    )
}

impl Shape {
    fn table(&self, level: usize) -> &'static str {
        [self.leads, "person", "entity"][level]
    }

    fn key(&self, level: usize) -> String {
        let parent = (self.is_django && level < self.parents).then(|| format!("{}_ptr_id", self.table(level + 1)));
        parent.unwrap_or_else(|| "id".to_owned())
    }

    /// The statements that create the tables, parents first.
    fn sql(&self) -> String {
        let login =
            self.login.map(|columns| columns.split(", ").map(|column| format!(", {column} varchar(9)")).collect());
        let login: String = login.unwrap_or_default();
        let mut sql = format!(
            "create table {} (id integer primary key, first_name varchar(9), last_name varchar(9), email varchar(40), phone varchar(20), updated_at timestamp{login});\n",
            self.staff
        );
        for row in 1..6 {
            sql += &format!(
                "insert into {} (id, first_name, last_name, email) values ({row}, 'Rae', 'Rep', 's-{row}@staff.example');\n",
                self.staff
            );
        }
        for level in (0..=self.parents).rev() {
            sql += &self.level_sql(level);
        }
        sql
    }

    fn level_sql(&self, level: usize) -> String {
        let (table, key) = (self.table(level), self.key(level));
        let (mark, declared, present, gone) = self.mark;
        let mut columns = format!("{key} integer primary key");
        if level < self.parents {
            columns += &format!(" references {} ({})", self.table(level + 1), self.key(level + 1));
        }
        columns += &format!(", updated_at timestamp, note_{level} varchar(9)");
        if level == self.mark_level {
            columns += &format!(", {mark} {declared}");
        }
        if level == self.email_level {
            columns += ", first_name varchar(9), email varchar(40), source varchar(9)";
        }
        if level == 0 && self.has_owner {
            columns += &format!(", owner_id integer references {} (id)", self.staff);
        }
        let mut sql = format!("create table {table} ({columns});\n");
        for (row, is_deleted) in self.deleted.iter().enumerate() {
            let mut values = format!("{row}, '2026-01-01 00:00:00', 'x'");
            if level == self.mark_level {
                values += &format!(", {}", if *is_deleted { gone } else { present });
            }
            if level == self.email_level {
                values += &format!(", 'Ann', '{row}@leads.example', 'Web'");
            }
            if level == 0 && self.has_owner {
                values += ", 1";
            }
            sql += &format!("insert into {table} values ({values});\n");
        }
        sql
    }
}

/// The addresses that a proposal would contact.
fn addresses(scene: &Scene, proposal: &SourceProposal) -> BTreeSet<String> {
    let rows = match &proposal.place {
        RowsPlace::Table { filter } => {
            let filter = filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
            format!("select email from {}{filter}", proposal.table)
        }
        RowsPlace::Query(query) => query.clone(),
    };
    scene.crm(&format!("select q.email from ({rows}) as q")).into_iter().collect()
}

fn check(engine: Engine, shape: &Shape) -> Result<(), TestCaseError> {
    let scene = crms::scene(engine, &shape.sql());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let catalog = runtime.block_on(async {
        let url = scene.crm_store().url();
        let db = SourceDb::open_source(&url, Duration::from_secs(30)).await.expect("the database is there");
        let mut catalog = introspect::tables(&db).await.expect("the catalog can be read");
        for table in &mut catalog {
            introspect::sample(&db, table).await;
        }
        db.close().await;
        catalog
    });
    let dialect = engine.pick(SqlDialect::Sqlite, SqlDialect::Postgres);
    let candidates = rank::candidates(&catalog);
    for candidate in &candidates {
        let table = &catalog[candidate.table];
        prop_assert_ne!(&table.name, shape.staff, "staff is no candidate");
        let proposal = propose(&catalog, candidate.table, dialect, &OperatorWishes::default());
        if proposal.missing().iter().any(|key| key.name() == "email") {
            continue;
        }
        let found = addresses(&scene, &proposal);
        prop_assert!(!found.iter().any(|address| address.ends_with("staff.example")), "{found:?}: {proposal:#?}");
    }
    let first = candidates.first().map(|candidate| catalog[candidate.table].name.as_str());
    prop_assert_eq!(first, Some(shape.leads), "the leads come first");
    let proposal = propose(&catalog, candidates[0].table, dialect, &OperatorWishes::default());
    let rows = shape.deleted.iter().enumerate().filter(|(_, is_deleted)| !**is_deleted);
    let present: BTreeSet<String> = rows.map(|(row, _)| format!("{row}@leads.example")).collect();
    prop_assert_eq!(addresses(&scene, &proposal), present, "{:#?}", proposal);
    Ok(())
}

fn no_staff_and_no_deleted_row_is_ever_proposed(engine: Engine) {
    let cases = engine.pick(40, 16);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    runner.run(&shape(), |shape| check(engine, &shape)).unwrap_or_else(|error| panic!("{error}"));
}

blocking_on_both_engines!(no_staff_and_no_deleted_row_is_ever_proposed);
