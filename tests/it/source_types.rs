//! Every ordinary column type, from the real database to the exact value in the Lead object, or the reason for its
//! absence.

use std::fmt::Write as _;

use crate::support::engine::{Engine, Place};
use crate::support::reading::{read, refusal};
use conversica_sync::rules::mapping::MappedRow;

/// The Conversica key that a column fills: of text, of booleans, of datetimes.
pub const TEXT: &str = "[lead.custom]\nprobe";
pub const YES_NO: &str = "optOut";
pub const MOMENT: &str = "date";

/// The expected value in the Lead object: its JSON, nothing, nothing with a note; or the reason why there is no Lead
/// object.
pub enum Expected {
    Json(&'static str),
    Absent,
    LeftOut(&'static str),
    Reason(&'static str),
}
use Expected::{Absent, Json, LeftOut, Reason};

/// Column type, SQL of the value, key, expected result.
pub type Case = (&'static str, &'static str, &'static str, Expected);

pub const NEITHER: Expected = Reason("is neither yes nor no");
pub const NO_MOMENT: Expected = LeftOut("is not a date and time");
pub const NOT_SCALAR: Expected = LeftOut("is a JSON object or array");

#[rustfmt::skip]
const POSTGRES: &[Case] = &[
    ("integer",          "42",                         TEXT,   Json("\"42\"")),
    ("smallint",         "-7",                         TEXT,   Json("\"-7\"")),
    ("bigint",           "9007199254740993",           TEXT,   Json("\"9007199254740993\"")),
    ("numeric(12,2)",    "1234.5",                     TEXT,   Json("\"1234.50\"")),
    ("numeric",          "100000000000000000000.125",  TEXT,   Json("\"100000000000000000000.125\"")),
    ("real",             "1.5",                        TEXT,   Json("\"1.5\"")),
    ("double precision", "0.1",                        TEXT,   Json("\"0.1\"")),
    ("double precision", "3605550123",                 TEXT,   Json("\"3605550123\"")),
    ("double precision", "1e15",                       TEXT,   Json("\"1000000000000000\"")),
    ("double precision", "9007199254740992",           TEXT,   Json("\"9007199254740992\"")),
    ("double precision", "1e21",                       TEXT,   Json("\"1e+21\"")),
    ("double precision", "'-0'",                       TEXT,   Json("\"0\"")),
    ("double precision", "'NaN'",                      TEXT,   LeftOut("is NaN or infinity")),
    ("double precision", "'-Infinity'",                TEXT,   LeftOut("is NaN or infinity")),
    ("double precision", "'NaN'",                      YES_NO, NEITHER),
    ("double precision", "1",                          YES_NO, Json("true")),
    ("real",             "9860712",                    TEXT,   Json("\"9860712\"")),
    ("measure",          "98607",                      TEXT,   Json("\"98607\"")),
    ("numeric(10,1)",    "7",                          TEXT,   Json("\"7.0\"")),
    ("numeric",          "'NaN'",                      TEXT,   LeftOut("is NaN or infinity")),
    ("numeric",          "'Infinity'",                 TEXT,   LeftOut("is NaN or infinity")),
    ("numeric(3,2)",     "0",                          YES_NO, Json("false")),
    ("numeric(3,2)",     "1",                          YES_NO, NEITHER),
    ("text",             "U&'Z\\FFFDrich'",            TEXT,   LeftOut("has a replacement character")),
    ("text",             "'  Zoë \"Z\" O''Neill \\ '", TEXT,   Json(r#""Zoë \"Z\" O'Neill \\""#)),
    ("text",             "null",                       TEXT,   Absent),
    ("text",             "'   '",                      TEXT,   Absent),
    ("text",             "E'a\\nb'",                   TEXT,   Json("\"a b\"")),
    ("text",             "repeat('é', 2001)",          TEXT,   LeftOut("is longer than 2000 characters")),
    ("text",             "repeat('x', 5000000)",       TEXT,   LeftOut("is longer than 2000 characters")),
    ("varchar(20)",      "'Ann'",                      TEXT,   Json("\"Ann\"")),
    ("char(8)",          "'ab'",                       TEXT,   Json("\"ab\"")),
    ("uuid",             "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", TEXT, Json("\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"")),
    ("stage",            "'Sold'",                     TEXT,   Json("\"Sold\"")),
    ("citext",           "'MiXed'",                    TEXT,   Json("\"MiXed\"")),
    ("postcode",         "'53111'",                    TEXT,   Json("\"53111\"")),
    ("boolean",          "true",                       TEXT,   Json("\"true\"")),
    ("boolean",          "true",                       YES_NO, Json("true")),
    ("boolean",          "false",                      YES_NO, Json("false")),
    ("boolean",          "null",                       YES_NO, Absent),
    ("integer",          "1",                          YES_NO, Json("true")),
    ("smallint",         "0",                          YES_NO, Json("false")),
    ("integer",          "2",                          YES_NO, NEITHER),
    ("char(1)",          "'Y'",                        YES_NO, Json("true")),
    ("char(3)",          "'n'",                        YES_NO, Json("false")),
    ("date",             "'2026-03-01'",               MOMENT, Json("\"2026-03-01T00:00:00+00:00\"")),
    ("date",             "'infinity'",                 MOMENT, NO_MOMENT),
    ("timestamp",        "'2026-03-01 12:34:56.789'",  MOMENT, Json("\"2026-03-01T12:34:56+00:00\"")),
    ("timestamptz",      "'2026-03-01 12:34:56+02'",   MOMENT, Json("\"2026-03-01T10:34:56+00:00\"")),
    ("timestamptz",      "'0044-03-15 12:00:00 BC'",   MOMENT, NO_MOMENT),
    ("bigint",           "1557467864",                 MOMENT, Json("\"2019-05-10T05:57:44+00:00\"")),
    ("bigint",           "1557467864000",              MOMENT, Json("\"2019-05-10T05:57:44+00:00\"")),
    ("text",             "'05/06/2019'",               MOMENT, NO_MOMENT),
    ("json",             "'\"text\"'",                 TEXT,   Json("\"text\"")),
    ("jsonb",            "'\"a\\\"b\"'",               TEXT,   Json(r#""a\"b""#)),
    ("json",             "'42.50'",                    TEXT,   Json("\"42.50\"")),
    ("jsonb",            "'true'",                     YES_NO, Json("true")),
    ("jsonb",            "'null'",                     TEXT,   Absent),
    ("jsonb",            "null",                       TEXT,   Absent),
    ("jsonb",            "'{\"a\": 1}'",               TEXT,   NOT_SCALAR),
    ("json",             "'[\"a\"]'",                  TEXT,   NOT_SCALAR),
    ("json",             "'{\"a\": 1}'",               TEXT,   NOT_SCALAR),
    ("json",             "'null'",                     TEXT,   Absent),
    ("json",             "null",                       TEXT,   Absent),
    ("json",             "' \"a\\u00e9\\tb\" '",       TEXT,   Json("\"aé b\"")),
    ("json",             "'\"a\\u00e9\\ud83d\\ude00\"'", TEXT,   Json("\"aé\u{1f600}\"")),
    ("json",             "'4.250e1'",                  TEXT,   Json("\"42.50\"")),
    ("json",             "'false'",                    YES_NO, Json("false")),
    ("json",             "'\"a\\u0000b\"'",            TEXT,   Json("\"ab\"")),
    ("json",             "'\"\\ud83d\"'",              TEXT,   LeftOut("is JSON that holds no text")),
    ("json",             "'1e999999'",                 TEXT,   LeftOut("is JSON that holds no text")),
    ("stored",           "'\"text\"'",                 TEXT,   Json("\"text\"")),
];

#[rustfmt::skip]
const SQLITE: &[Case] = &[
    ("integer",     "42",                                TEXT,   Json("\"42\"")),
    ("integer",     "9007199254740993",                  TEXT,   Json("\"9007199254740993\"")),
    ("real",        "1.5",                               TEXT,   Json("\"1.5\"")),
    ("real",        "3605550123",                        TEXT,   Json("\"3605550123\"")),
    ("real",        "-7",                                TEXT,   Json("\"-7\"")),
    ("",            "98607.0",                           TEXT,   Json("\"98607\"")),
    ("float",       "1e21",                              TEXT,   Json("\"1.0e+21\"")),
    ("real",        "9e999",                             TEXT,   LeftOut("is NaN or infinity")),
    ("real",        "-9e999",                            YES_NO, NEITHER),
    ("text",        "'98607.0'",                         TEXT,   Json("\"98607.0\"")),
    ("numeric",     "12.50",                             TEXT,   Json("\"12.5\"")),
    ("numeric",     "'12 Main St'",                      TEXT,   Json("\"12 Main St\"")),
    ("text",        "'  Zoë \"Z\" O''Neill \\ '",        TEXT,   Json(r#""Zoë \"Z\" O'Neill \\""#)),
    ("text",        "'\u{1f600}'",                       TEXT,   Json("\"\u{1f600}\"")),
    ("text",        "null",                              TEXT,   Absent),
    ("text",        "'   '",                             TEXT,   Absent),
    ("text",        "'Z\u{fffd}rich'",                   TEXT,   LeftOut("has a replacement character")),
    ("varchar(3)",  "'longer'",                          TEXT,   Json("\"longer\"")),
    ("blob",        "x'5a6fc3ab'",                       TEXT,   Json("\"Zoë\"")),
    ("blob",        "x'41ff42'",                         TEXT,   Reason("is not valid UTF-8 text")),
    ("text",        "cast(x'41ff42' as text)",           TEXT,   Reason("is not valid UTF-8 text")),
    ("text",        "cast(x'c3' as text)",               TEXT,   Reason("is not valid UTF-8 text")),
    ("text",        "cast(x'410042' as text)",           TEXT,   Json("\"AB\"")),
    ("blob",        "x'410042'",                         TEXT,   Json("\"AB\"")),
    ("text",        "'a' || char(10) || 'b'",            TEXT,   Json("\"a b\"")),
    ("text",        "printf('%.*c', 5000000, 'x')",      TEXT,   LeftOut("is longer than 2000 characters")),
    ("text",        "'{\"a\":1}'",                       TEXT,   Json(r#""{\"a\":1}""#)),
    ("boolean",     "true",                              YES_NO, Json("true")),
    ("integer",     "0",                                 YES_NO, Json("false")),
    ("real",        "1",                                 YES_NO, Json("true")),
    ("integer",     "2",                                 YES_NO, NEITHER),
    ("text",        "'Y'",                               YES_NO, Json("true")),
    ("text",        "'n'",                               YES_NO, Json("false")),
    ("text",        "''",                                YES_NO, Absent),
    ("date",        "'2026-03-01'",                      MOMENT, Json("\"2026-03-01T00:00:00+00:00\"")),
    ("datetime",    "'2026-03-01 12:34:56.789'",         MOMENT, Json("\"2026-03-01T12:34:56+00:00\"")),
    ("datetime",    "'2026-03-01T12:34:56+02:00'",       MOMENT, Json("\"2026-03-01T10:34:56+00:00\"")),
    ("integer",     "1557467864",                        MOMENT, Json("\"2019-05-10T05:57:44+00:00\"")),
    ("integer",     "1557467864000",                     MOMENT, Json("\"2019-05-10T05:57:44+00:00\"")),
    ("real",        "1557467864.5",                      MOMENT, Json("\"2019-05-10T05:57:44+00:00\"")),
    ("text",        "'05/06/2019'",                      MOMENT, NO_MOMENT),
];

/// One table with a column a case, and one row.
pub fn table_of(cases: &[Case]) -> String {
    let (mut columns, mut values) = (String::from("id integer primary key"), String::from("7"));
    for (n, (kind, value, _, _)) in cases.iter().enumerate() {
        let _ = write!(columns, ", c{n} {kind}");
        let _ = write!(values, ", {value}");
    }
    format!("create table leads ({columns}); insert into leads values ({values})")
}

fn body_with(key: &str, expected: &Expected) -> String {
    let (opt_out, date, custom) = match (key, expected) {
        (YES_NO, Json(json)) => (format!("\"optOut\":{json},"), String::new(), String::new()),
        (MOMENT, Json(json)) => (String::new(), format!(",\"date\":{json}"), String::new()),
        (_, Json(json)) => (String::new(), String::new(), format!(",\"probe\":{json}")),
        (_, Absent | LeftOut(_) | Reason(_)) => Default::default(),
    };
    format!(
        "{{\"apiVersion\":\"7.2\",\"id\":\"7\",\"firstName\":\"Ann\",\"email\":\"ann@example.com\",\
         \"leadSource\":\"Web\",{opt_out}\"repName\":\"Robin\"{date}{custom}}}"
    )
}

async fn holds(place: &Place, cases: &[Case]) {
    place.sql(&table_of(cases)).await;
    are_read(place, cases).await;
}

/// Each case of [`table_of`] has its result.
pub async fn are_read(place: &Place, cases: &[Case]) {
    for (n, (kind, value, key, expected)) in cases.iter().enumerate() {
        let lead = format!("{key} = 'c{n}'");
        let mut rows: Vec<MappedRow> = read(place, "table = 'leads'\nkey = 'id'", &lead).await;
        assert_eq!(rows.len(), 1);
        let MappedRow { desired, notes, .. } = rows.remove(0);
        let cleaned = notes.iter().filter(|note| !note.contains("left out, because")).count();
        assert!(notes.iter().all(|note| note.contains(&format!("(column \"c{n}\")"))), "{kind} {value}: {notes:?}");
        match expected {
            Reason(reason) => {
                let reasons = desired.expect_err("it cannot be sent");
                let named =
                    reasons.len() == 1 && reasons[0].contains(reason) && reasons[0].contains(&format!("\"c{n}\""));
                assert!(named, "{kind} {value}: {reasons:?}");
            }
            LeftOut(why) => {
                assert_eq!(desired, Ok(body_with(key, expected)), "{kind} {value}");
                assert!(notes.len() == 1 && notes[0].contains(why), "{kind} {value}: {notes:?}");
            }
            Json(_) | Absent => {
                assert_eq!(desired, Ok(body_with(key, expected)), "{kind} {value}");
                assert_eq!(notes.len(), cleaned, "{kind} {value}: {notes:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_ordinary_type_of_postgres_is_read() {
    let place = Engine::Postgres.place();
    let types = "create extension citext; create type stage as enum ('New', 'Sold'); \
                 create domain postcode as text check (length(value) = 5); create domain stored as json; create domain measure as double precision";
    place.sql(types).await;
    holds(&place, POSTGRES).await;
}

#[tokio::test]
async fn every_ordinary_type_of_sqlite_is_read() {
    holds(&Engine::Sqlite.place(), SQLITE).await;
}

#[tokio::test]
async fn types_without_a_plain_text_are_refused_by_column_and_type() {
    let place = Engine::Postgres.place();
    place
        .sql(
            "create type address as (street text, zip text); create table leads (id integer primary key, \
              a integer[], b bytea, c address, d int4range, e point, f text[], g tsvector, h bit(3))",
        )
        .await;
    let named = [
        ("a", "int4[]"),
        ("b", "bytea"),
        ("c", "address"),
        ("d", "int4range"),
        ("e", "point"),
        ("f", "text[]"),
        ("g", "tsvector"),
        ("h", "bit"),
    ];
    for (column, kind) in named {
        let refused = refusal(&place, "table = 'leads'\nkey = 'id'", &format!("{TEXT} = '{column}'")).await;
        let expected = format!("column \"{column}\", which [lead] probe asks for, is of type {kind}");
        assert!(refused.what.contains(&expected), "{refused}");
        assert!(refused.cure.contains("[source] query"), "{refused}");
    }
    let used = "table = 'leads'\nkey = 'a'";
    let refused = refusal(&place, used, "").await;
    assert!(refused.what.contains("[source] key asks for"), "{refused}");
}

#[tokio::test]
async fn one_unreadable_value_concerns_no_other_row() {
    let place = Engine::Sqlite.place();
    place
        .sql(
            "create table leads (id integer primary key, name text); insert into leads values (1, 'Ann'), \
              (2, cast(x'ff' as text)), (3, printf('%.*c', 1000000, 'x')), (4, cast(x'00' as text)), (5, 'Bob')",
        )
        .await;
    let rows = read(&place, "table = 'leads'\nkey = 'id'", &format!("{TEXT} = 'name'")).await;
    let sendable: Vec<&str> = rows.iter().filter(|row| row.desired.is_ok()).map(|row| row.lead.id.as_str()).collect();
    assert_eq!((rows.len(), sendable), (5, vec!["1", "3", "4", "5"]), "and the value of no use is left out");
}

#[tokio::test]
async fn json_that_postgresql_cannot_take_out_concerns_no_other_row() {
    let place = Engine::Postgres.place();
    place
        .sql(
            "create table leads (id integer primary key, extra json); insert into leads values (1, '\"Ann\"'), \
              (2, '\"a\\u0000b\"'), (3, '\"\\ud83d\"'), (4, '1e999999'), (5, '\"Bob\"')",
        )
        .await;
    let rows = read(&place, "table = 'leads'\nkey = 'id'", &format!("{TEXT} = 'extra'")).await;
    let sendable: Vec<&str> = rows.iter().filter(|row| row.desired.is_ok()).map(|row| row.lead.id.as_str()).collect();
    assert_eq!((rows.len(), sendable), (5, vec!["1", "2", "3", "4", "5"]));
    let notes: Vec<&String> = rows.iter().flat_map(|row| &row.notes).collect();
    assert!(notes.len() == 3 && notes.iter().all(|note| note.contains("(column \"extra\")")), "{rows:?}");
}
