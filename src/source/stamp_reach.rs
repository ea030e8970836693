//! The columns that an expression over the source is made from, as the database's plan of it shows: whether `changed_at` takes in
//! the stamp of another table.

use serde_json::Value;
use sqlx::SqlitePool;

use crate::db::{self, discreet};
use crate::source::columns;
use crate::source::guest::SourcePool;
use crate::source::relations::ReadRelation;
use crate::source::source_db::SourceDb;

/// A relation that is read, with its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadColumns {
    pub relation: ReadRelation,
    pub columns: Vec<String>,
}

/// A column that the expression uses: the relation's schema, its name, and the column.
pub type UsedStamp = (Option<String>, String, String);

/// The columns of each relation.
///
/// # Errors
/// The database's.
pub async fn columns_of(db: &SourceDb, relations: &[ReadRelation]) -> Result<Vec<ReadColumns>, sqlx::Error> {
    let mut described = Vec::new();
    for relation in relations {
        let columns: Result<Vec<String>, sqlx::Error> = match db {
            SourceDb::Sqlite(pool) => {
                let sql = "select name from pragma_table_xinfo($1) order by cid";
                sqlx::query_scalar(sql).bind(&relation.name).fetch_all(pool).await
            }
            SourceDb::Postgres(pool) => {
                let sql = "select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = $1::bigint::oid \
                           and a.attnum > 0 and not a.attisdropped order by a.attnum";
                sqlx::query_scalar(sql).bind(relation.oid).fetch_all(pool).await
            }
            SourceDb::Mysql(_) => Ok(Vec::new()),
        };
        let columns = columns.map_err(discreet::of_source)?;
        described.push(ReadColumns { relation: relation.clone(), columns });
    }
    Ok(described)
}

/// Those of the wanted columns that the expression uses. Empty on MySQL.
///
/// # Errors
/// The database's.
pub async fn used_columns(
    db: &SourceDb,
    from: &str,
    expression: &str,
    wanted: &[UsedStamp],
) -> Result<Vec<UsedStamp>, sqlx::Error> {
    match db {
        SourceDb::Sqlite(pool) => of_sqlite(pool, from, expression, wanted).await,
        SourceDb::Postgres(pool) => of_postgres(pool, from, expression, wanted).await,
        SourceDb::Mysql(_) => Ok(Vec::new()),
    }
    .map_err(discreet::of_source)
}

/// The columns that the compiled statement fetches, from the tables and the indexes that it opens.
async fn of_sqlite(
    pool: &SqlitePool,
    from: &str,
    expression: &str,
    wanted: &[UsedStamp],
) -> Result<Vec<UsedStamp>, sqlx::Error> {
    let mut connection = columns::fresh_sqlite(pool).await?;
    let sql = db::trusted(format!("explain select {expression} from {from}"));
    let opcodes: Vec<(i64, String, i64, i64)> = sqlx::query_as(sql).fetch_all(&mut *connection).await?;
    let mut used = Vec::new();
    for (_, table, column) in wanted {
        // Each place of the column: in the table itself, and in its indexes.
        let places: Vec<(i64, i64)> = sqlx::query_as(
            "select m.rootpage, x.cid from sqlite_master m join pragma_table_xinfo(m.name) x on x.name = $2 \
             where m.type = 'table' and m.name = $1 \
             union all select m.rootpage, x.seqno from sqlite_master m join pragma_index_xinfo(m.name) x on x.name = $2 \
             where m.type = 'index' and m.tbl_name = $1",
        )
        .bind(table)
        .bind(column)
        .fetch_all(&mut *connection)
        .await?;
        let is_fetched = |(page, number): &(i64, i64)| {
            let opened = opcodes.iter().filter(|(_, opcode, _, root)| opcode == "OpenRead" && root == page);
            let cursors: Vec<i64> = opened.map(|(_, _, cursor, _)| *cursor).collect();
            opcodes.iter().any(|(_, opcode, cursor, at)| opcode == "Column" && cursors.contains(cursor) && at == number)
        };
        if places.iter().any(is_fetched) {
            used.push((None, table.clone(), column.clone()));
        }
    }
    Ok(used)
}

async fn of_postgres(
    pool: &SourcePool,
    from: &str,
    expression: &str,
    wanted: &[UsedStamp],
) -> Result<Vec<UsedStamp>, sqlx::Error> {
    let sql = format!("explain (verbose, costs off, format json) select count({expression}) from {from}");
    let plan: Value = sqlx::query_scalar(db::trusted(sql)).fetch_one(pool).await?;
    let mut found = PlanColumns::default();
    found.collect(&plan[0]["Plan"], PlanPlace::Below);
    Ok(wanted.iter().filter(|wanted| found.uses(wanted)).cloned().collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlanPlace {
    Below,
    TopOfSubquery,
}

/// The expressions that a plan computes, and the names of its relations within.
#[derive(Default)]
struct PlanColumns {
    outputs: Vec<String>,
    /// Schema, relation, alias.
    aliases: Vec<(String, String, String)>,
}

impl PlanColumns {
    /// A scan below another node may return whole rows, because that is cheaper: what it returns says nothing. At the top of a
    /// subquery it returns what is asked for.
    fn collect(&mut self, node: &Value, place: PlanPlace) {
        let text = |key: &str| node[key].as_str().map(str::to_owned);
        let is_scan = node["Relation Name"].is_string();
        if let (Some(schema), Some(relation), Some(alias)) = (text("Schema"), text("Relation Name"), text("Alias")) {
            self.aliases.push((schema, relation, alias));
        }
        if !is_scan || place == PlanPlace::TopOfSubquery {
            let outputs = node["Output"].as_array().into_iter().flatten();
            self.outputs.extend(outputs.filter_map(Value::as_str).map(str::to_owned));
        }
        for below in node["Plans"].as_array().into_iter().flatten() {
            let relation = below["Parent Relationship"].as_str().unwrap_or_default();
            let is_top = ["SubPlan", "InitPlan", "Member", "Subquery"].contains(&relation);
            self.collect(below, if is_top { PlanPlace::TopOfSubquery } else { PlanPlace::Below });
        }
    }

    fn uses(&self, (schema, table, column): &UsedStamp) -> bool {
        let aliases = self.aliases.iter().filter(|(s, t, _)| Some(s) == schema.as_ref() && t == table);
        aliases.into_iter().any(|(_, _, alias)| {
            let quoted = |name: &str| [name.to_owned(), db::quote(name)];
            let names =
                quoted(alias).into_iter().flat_map(|alias| quoted(column).map(|column| format!("{alias}.{column}")));
            names.into_iter().any(|name| self.outputs.iter().any(|output| is_part(output, &name)))
        })
    }
}

/// Whether the name is in the expression, and not as a part of another name.
fn is_part(expression: &str, name: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || ['_', '$', '"', '.'].contains(&c);
    expression.match_indices(name).any(|(at, found)| {
        !expression[..at].ends_with(is_letter) && !expression[at + found.len()..].starts_with(is_letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scan_returns_says_nothing_and_what_is_computed_says_all() {
        let plan = serde_json::json!({ "Output": ["count(GREATEST(l.updated_at, \"C\".\"updatedAt\"))"], "Plans": [
            { "Output": ["l.updated_at", "\"C\".\"updatedAt\""], "Plans": [
                { "Schema": "public", "Relation Name": "leads", "Alias": "l", "Output": ["l.id", "l.updated_at"] },
                { "Schema": "public", "Relation Name": "contacts", "Alias": "C", "Output": ["\"C\".\"updatedAt\""] },
                { "Schema": "public", "Relation Name": "users", "Alias": "u", "Output": ["u.id", "u.updated_at"] },
            ]},
        ]});
        let mut found = PlanColumns::default();
        found.collect(&plan, PlanPlace::Below);
        let uses =
            |table: &str, column: &str| found.uses(&(Some("public".to_owned()), table.to_owned(), column.to_owned()));
        assert!(uses("leads", "updated_at") && uses("contacts", "updatedAt"));
        assert!(!uses("users", "updated_at") && !uses("leads", "updated") && !uses("contacts", "updated_at"));
    }
}
