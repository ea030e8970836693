//! The whole state as a text, for tests that search it for forbidden content.

use conversica_sync::db::trusted;
use conversica_sync::store::state_db::StateDb;

/// The names of all tables, sorted.
pub async fn tables(db: &StateDb) -> Vec<String> {
    let sql = match db {
        StateDb::Sqlite(_) => {
            "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name"
        }
        StateDb::Postgres(_) => {
            "select cast(table_name as text) from information_schema.tables where table_schema = 'conversica_sync' \
             and table_type = 'BASE TABLE' order by 1"
        }
    };
    on_state!(db, pool => sqlx::query_scalar(sql).fetch_all(pool).await.expect("the schema is told"))
}

/// One line for each row of these tables, with the table's name first; bytes as lower-case hexadecimal digits.
pub async fn dump(db: &StateDb, tables: &[String]) -> String {
    let mut text = String::new();
    for table in tables {
        let sql = match db {
            StateDb::Sqlite(pool) => {
                let columns: Vec<String> = sqlx::query_scalar("select name from pragma_table_info($1)")
                    .bind(table)
                    .fetch_all(pool)
                    .await
                    .unwrap();
                let value = |name: &String| {
                    format!("coalesce(case typeof({name}) when 'blob' then lower(hex({name})) else {name} end, '')")
                };
                let values: Vec<String> = columns.iter().map(value).collect();
                format!("select {} from {table}", values.join(" || '|' || "))
            }
            StateDb::Postgres(_) => format!("select cast(to_jsonb(t) as text) from {table} t"),
        };
        let rows: Vec<String> =
            on_state!(db, pool => sqlx::query_scalar(trusted(sql)).fetch_all(pool).await.expect("rows"));
        for row in rows {
            text.push_str(&format!("{table}: {row}\n"));
        }
    }
    text
}

/// Bytes in the form of [`dump`].
pub fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
