//! Rewrites a proposal's SQL for MySQL and MariaDB. The proposal is made with standard quotes and casts, which both have in
//! another form. Pure.

use crate::setup::propose::proposal::{RowsPlace, SourceProposal};

/// Casts to types that MySQL names differently.
const CASTS: [(&str, &str); 2] = [(" AS text)", " AS char)"), (" AS integer)", " AS signed)")];

/// The same proposal, with SQL that MySQL reads.
pub fn rewrite_proposal(mut proposal: SourceProposal) -> SourceProposal {
    proposal.place = match proposal.place {
        RowsPlace::Table { filter } => RowsPlace::Table { filter: filter.as_deref().map(rewrite_sql) },
        RowsPlace::Query(query) => RowsPlace::Query(rewrite_sql(&query)),
    };
    if let Some(changed_at) = &mut proposal.changed_at {
        changed_at.what = rewrite_sql(&changed_at.what);
    }
    for column in &mut proposal.consent {
        column.condition = column.condition.as_deref().map(rewrite_sql);
    }
    proposal
}

/// Identifiers in backticks, and the names of types in casts. Texts stay as they are.
fn rewrite_sql(sql: &str) -> String {
    let mut rewritten = String::with_capacity(sql.len());
    let mut outside = String::new();
    let mut characters = sql.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '\'' && c != '"' {
            outside.push(c);
            continue;
        }
        rewritten.push_str(&rewrite_casts(&std::mem::take(&mut outside)));
        let mut inside = String::new();
        while let Some(next) = characters.next() {
            match next {
                next if next == c && characters.next_if_eq(&c).is_some() => inside.push(c),
                next if next == c => break,
                next => inside.push(next),
            }
        }
        rewritten.push_str(&match c {
            '"' => format!("`{}`", inside.replace('`', "``")),
            _ => format!("'{}'", inside.replace('\'', "''")),
        });
    }
    rewritten.push_str(&rewrite_casts(&outside));
    rewritten
}

fn rewrite_casts(sql: &str) -> String {
    CASTS.iter().fold(sql.to_owned(), |sql, (standard, own)| sql.replace(standard, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_casts_are_those_of_mysql_and_texts_stay() {
        let sql =
            r#"SELECT l."it's", CAST(l."a""b" AS text) AS "x y" FROM "leads" AS l WHERE l."c" = 'say "o''k" AS text)'"#;
        let expected =
            r#"SELECT l.`it's`, CAST(l.`a"b` AS char) AS `x y` FROM `leads` AS l WHERE l.`c` = 'say "o''k" AS text)'"#;
        assert_eq!(rewrite_sql(sql), expected);
        assert_eq!(rewrite_sql("coalesce(CAST(\"n\" AS integer), 0)"), "coalesce(CAST(`n` AS signed), 0)");
        assert_eq!(rewrite_sql("updated_at"), "updated_at");
    }
}
