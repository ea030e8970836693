//! Every column type of MariaDB, from the real server to the exact value in the Lead object, and the order of the keys.

use crate::source_types::Expected::{Absent, Json, LeftOut};
use crate::source_types::{Case, MOMENT, NEITHER, NO_MOMENT, NOT_SCALAR, TEXT, YES_NO, are_read, table_of};
use crate::support::mariadb::mariadb;
use crate::support::reading::{ids, read, refusal};

const LEADS: &str = "table = 'leads'\nkey = 'id'";

#[rustfmt::skip]
const MARIADB: &[Case] = &[
    ("tinyint(1)",           "1",                          TEXT,   Json("\"1\"")),
    ("tinyint(1)",           "1",                          YES_NO, Json("true")),
    ("boolean",              "false",                      YES_NO, Json("false")),
    ("tinyint(1)",           "2",                          YES_NO, NEITHER),
    ("tinyint unsigned",     "255",                        TEXT,   Json("\"255\"")),
    ("smallint",             "-7",                         TEXT,   Json("\"-7\"")),
    ("mediumint",            "8388607",                    TEXT,   Json("\"8388607\"")),
    ("int(5) zerofill",      "42",                         TEXT,   Json("\"00042\"")),
    ("bigint",               "-9223372036854775808",       TEXT,   Json("\"-9223372036854775808\"")),
    ("bigint unsigned",      "18446744073709551615",       TEXT,   Json("\"18446744073709551615\"")),
    ("decimal(12,2)",        "1234.5",                     TEXT,   Json("\"1234.50\"")),
    ("decimal(30,10)",       "12345678901234567890.5",     TEXT,   Json("\"12345678901234567890.5000000000\"")),
    ("float",                "1234.567",                   TEXT,   Json("\"1234.567\"")),
    ("float",                "0.1",                        TEXT,   Json("\"0.1\"")),
    ("float",                "16777216",                   TEXT,   Json("\"16777216\"")),
    ("float(10,2)",          "12.5",                       TEXT,   Json("\"12.50\"")),
    ("double",               "0.1",                        TEXT,   Json("\"0.1\"")),
    ("double",               "3605550123",                 TEXT,   Json("\"3605550123\"")),
    ("double",               "1e15",                       TEXT,   Json("\"1000000000000000\"")),
    ("double",               "9007199254740992",           TEXT,   Json("\"9007199254740992\"")),
    ("double",               "1e22",                       TEXT,   Json("\"1e22\"")),
    ("double",               "-0e0",                       TEXT,   Json("\"0\"")),
    ("double",               "1",                          YES_NO, Json("true")),
    ("double",               "null",                       TEXT,   Absent),
    ("bit(8)",               "b'101'",                     TEXT,   Json("\"5\"")),
    ("bit(1)",               "b'1'",                       YES_NO, Json("true")),
    ("bit(64)",              "b'1'",                       TEXT,   Json("\"1\"")),
    ("year",                 "2024",                       TEXT,   Json("\"2024\"")),
    ("date",                 "'2024-01-02'",               TEXT,   Json("\"2024-01-02\"")),
    ("date",                 "'2024-01-02'",               MOMENT, Json("\"2024-01-02T00:00:00+00:00\"")),
    ("date",                 "'0000-00-00'",               MOMENT, NO_MOMENT),
    ("date",                 "'0000-00-00'",               TEXT,   Json("\"0000-00-00\"")),
    ("datetime",             "'2024-01-02 03:04:05'",      TEXT,   Json("\"2024-01-02 03:04:05\"")),
    ("datetime(3)",          "'2024-01-02 03:04:05.678'",  TEXT,   Json("\"2024-01-02 03:04:05.678\"")),
    ("datetime",             "'2024-01-02 03:04:05'",      MOMENT, Json("\"2024-01-02T03:04:05+00:00\"")),
    ("datetime",             "'0000-00-00 00:00:00'",      MOMENT, NO_MOMENT),
    // The test's session writes nine hours east of UTC.
    ("timestamp null",       "'2024-01-02 03:04:05'",      MOMENT, Json("\"2024-01-01T18:04:05+00:00\"")),
    ("timestamp(6) null",    "'2024-01-02 03:04:05.5'",    TEXT,   Json("\"2024-01-01 18:04:05.500000+00\"")),
    ("timestamp null",       "'0000-00-00 00:00:00'",      MOMENT, NO_MOMENT),
    ("timestamp null",       "null",                       MOMENT, Absent),
    ("time",                 "'-10:00:00'",                TEXT,   Json("\"-10:00:00\"")),
    ("enum('New','Sold')",   "'Sold'",                     TEXT,   Json("\"Sold\"")),
    ("enum('yes','no')",     "'yes'",                      YES_NO, Json("true")),
    ("set('a','b','c')",     "'c,a'",                      TEXT,   Json("\"a,c\"")),
    ("json",                 "'\"hi\"'",                   TEXT,   Json("\"hi\"")),
    ("json",                 "'7'",                        TEXT,   Json("\"7\"")),
    ("json",                 "'null'",                     TEXT,   Absent),
    ("json",                 "'{\"a\": 1}'",               TEXT,   NOT_SCALAR),
    ("json",                 "'[1]'",                      TEXT,   NOT_SCALAR),
    ("char(5)",              "'ab'",                       TEXT,   Json("\"ab\"")),
    ("varchar(20)",          "'null'",                     TEXT,   Json("\"null\"")),
    ("text",                 "'  Zoë \"Z\" O''Neill '",    TEXT,   Json(r#""Zoë \"Z\" O'Neill""#)),
    ("longtext",             "'😀'",                       TEXT,   Json("\"😀\"")),
    ("varchar(20) character set latin1", "'Jörg €'",       TEXT,   Json("\"Jörg €\"")),
    ("varchar(20) character set utf16",  "'Łódź'",         TEXT,   Json("\"Łódź\"")),
    ("varchar(20) collate utf8mb4_bin",  "'   '",          TEXT,   Absent),
    ("varchar(20)",          "'Z\u{fffd}rich'",            TEXT,   LeftOut("has a replacement character")),
    ("uuid",                 "'0189D0A3-5A2F-7C3E-8000-00000000000A'", TEXT, Json("\"0189d0a3-5a2f-7c3e-8000-00000000000a\"")),
    ("inet6",                "'2001:db8::1'",              TEXT,   Json("\"2001:db8::1\"")),
];

#[tokio::test]
async fn every_ordinary_type_of_mariadb_is_read() {
    let crm = mariadb().database();
    crm.sql(&format!("set sql_mode = ''; {}", table_of(MARIADB)));
    are_read(&crm.place(), MARIADB).await;
}

#[tokio::test]
async fn a_query_gives_the_same_texts_as_its_table() {
    let crm = mariadb().database();
    crm.sql(
        "create table leads (id int primary key, b bit(8), f float, d double, n tinyint(1), ts timestamp null, j json); \
         insert into leads values (7, b'101', 1234.567, 1e15, 1, '2024-01-02 03:04:05', '7')",
    );
    for (column, text) in [
        ("b", "5"),
        ("f", "1234.567"),
        ("d", "1000000000000000"),
        ("n", "1"),
        ("ts", "2024-01-01 18:04:05+00"),
        ("j", "7"),
    ] {
        for source in [LEADS, "query = 'select * from leads where id > 0; -- all'\nkey = 'id'"] {
            let rows = read(&crm.place(), source, &format!("{TEXT} = '{column}'")).await;
            let body = rows[0].desired.clone().expect("a valid lead");
            assert!(body.contains(&format!("\"probe\":\"{text}\"")), "{column} of {source}: {body}");
        }
    }
}

#[tokio::test]
async fn bytes_are_refused_with_the_function_that_writes_them_as_text() {
    let crm = mariadb().database();
    crm.sql(
        "create table leads (id binary(16) primary key, a varbinary(9), b blob, c point, name text); \
         insert into leads (id, name) values (x'00112233445566778899aabbccddeeff', 'Ann')",
    );
    let refused = refusal(&crm.place(), LEADS, "").await;
    assert!(refused.what.contains("column \"id\", which [source] key asks for, is of type binary"), "{refused}");
    assert!(refused.cure.contains("hex(id)") && refused.cure.contains("bin_to_uuid(id)"), "{refused}");
    for (column, kind) in [("a", "varbinary"), ("b", "blob"), ("c", "geometry")] {
        let source = "query = 'select hex(id) as id, a, b, c from leads'\nkey = 'id'";
        let refused = refusal(&crm.place(), source, &format!("{TEXT} = '{column}'")).await;
        assert!(refused.what.contains(&format!("\"{column}\"")) && refused.what.contains(kind), "{refused}");
    }
    let cured =
        read(&crm.place(), "query = 'select hex(id) as id, name from leads'\nkey = 'id'", "city = 'name'").await;
    assert_eq!(cured[0].lead.id, "00112233445566778899AABBCCDDEEFF");
}

/// The state sorts keys by their bytes, and the full compare relies on it.
#[tokio::test]
async fn keys_come_in_the_order_of_their_bytes_whatever_the_collation() {
    let crm = mariadb().database();
    crm.sql(
        "create table leads (id varchar(20) primary key) character set utf8mb4 collate utf8mb4_unicode_ci; \
         insert into leads values ('b'), ('A'), ('c'), ('a b'), ('B2'), ('ö'), ('z'), ('10'), ('9'), ('_'), ('a\\\\b')",
    );
    let keys: Vec<String> = ids(&crm.place(), LEADS).await.into_iter().map(|lead| lead.id).collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
    assert_eq!(keys.len(), 11);
}

#[tokio::test]
async fn whole_numbers_come_in_the_order_of_the_state_also_unsigned_and_negative() {
    let crm = mariadb().database();
    crm.sql(
        "create table leads (id bigint unsigned primary key); insert into leads values (9), (10), (100), (18446744073709551615); \
         create table debts (id int primary key); insert into debts values (-2), (-10), (3), (20)",
    );
    let keys = |leads: Vec<conversica_sync::conversica::lead::LeadId>| {
        leads.into_iter().map(|lead| lead.id).collect::<Vec<String>>()
    };
    assert_eq!(keys(ids(&crm.place(), LEADS).await), ["9", "10", "100", "18446744073709551615"]);
    assert_eq!(keys(ids(&crm.place(), "table = 'debts'\nkey = 'id'").await), ["-10", "-2", "20", "3"]);
}

#[tokio::test]
async fn odd_names_of_tables_and_columns_are_quoted() {
    let crm = mariadb().database();
    crm.sql("create table `odd ``name`.x (id int)".replace("`odd ``name`.x", "`odd ``name`").as_str());
    crm.sql(
        "drop table `odd ``name`; create table `order` (`key` int primary key, `first \"name` text, `E-Mail` text)",
    );
    crm.sql("insert into `order` values (1, 'Zoë', 'zoe@example.com')");
    let name = crm.name.clone();
    for table in ["order", "`order`", &format!("{name}.order"), &format!("`{name}`.`order`")] {
        let source = format!("table = '{table}'\nkey = 'KEY'\nwhere = '`e-mail` <> \"\"'");
        let rows = read(&crm.place(), &source, &format!("{TEXT} = 'first \"name'")).await;
        assert!(rows[0].desired.clone().expect("a valid lead").contains("Zoë"), "{table}");
    }
}
