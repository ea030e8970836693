//! Reads the operator's statements with `:named` parameters: finds the names outside quotes, comments and casts. Pure.
//!
//! It parses only as much SQL as it needs to recognise parameters. All other text stays unchanged, letter by letter; statements
//! that `;` separates run one after the other.

use crate::source::dialect::SourceDialect;

/// One statement, split at its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedStatement {
    /// Text before the first parameter, between parameters, and after the last.
    texts: Vec<String>,
    /// The parameters' names in the order of the text, one for each place.
    places: Vec<String>,
    /// Characters of the setting before this statement.
    offset: usize,
}

/// Why a setting cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at character {at}")]
pub struct UnreadableStatement {
    what: &'static str,
    /// From 1.
    pub at: usize,
}

/// Reads the statements of a setting; at least one.
///
/// # Errors
/// [`UnreadableStatement`] for a text that ends within quotes or a comment, has parameters of another kind, begins or ends a
/// transaction, or is empty.
pub fn parse(text: &str, engine: SourceDialect) -> Result<Vec<NamedStatement>, UnreadableStatement> {
    StatementReader {
        characters: text.chars().collect(),
        at: 0,
        engine,
        statement: NamedStatement::starting(0),
        said: false,
        began: 0,
    }
    .read()
}

impl NamedStatement {
    fn starting(offset: usize) -> Self {
        Self { texts: vec![String::new()], places: Vec::new(), offset }
    }

    /// The name at each place; a name that is used twice appears twice.
    pub fn places(&self) -> &[String] {
        &self.places
    }

    /// Each name once, in the order of first use.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in &self.places {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The statement with `write`'s text at each place, counted from 0.
    pub fn with(&self, write: impl Fn(usize) -> String) -> String {
        let mut sql = self.texts[0].clone();
        for (place, text) in self.texts[1..].iter().enumerate() {
            sql.push_str(&write(place));
            sql.push_str(text);
        }
        sql
    }

    /// The statement with `$n` for each name; the same name has the same number.
    pub fn numbered(&self) -> String {
        let names = self.names();
        let number = |name: &str| names.iter().position(|known| *known == name).map_or(0, |n| n + 1);
        self.with(|place| format!("${}", number(&self.places[place])))
    }

    /// The position in the setting of a character of [`NamedStatement::with`]; both count from 1.
    pub fn position(&self, at: usize, write: impl Fn(usize) -> String) -> usize {
        let (mut rewritten, mut original) = (0, self.offset);
        for (index, text) in self.texts.iter().enumerate() {
            let length = text.chars().count();
            if at <= rewritten + length {
                return original + at - rewritten;
            }
            (rewritten, original) = (rewritten + length, original + length);
            let Some(name) = self.places.get(index) else { break };
            let written = write(index).chars().count();
            if at <= rewritten + written {
                return original + 1;
            }
            (rewritten, original) = (rewritten + written, original + 1 + name.chars().count());
        }
        original
    }
}

struct StatementReader {
    characters: Vec<char>,
    at: usize,
    engine: SourceDialect,
    statement: NamedStatement,
    /// The statement has something besides blanks and comments.
    said: bool,
    /// Where that begins.
    began: usize,
}

impl StatementReader {
    fn read(mut self) -> Result<Vec<NamedStatement>, UnreadableStatement> {
        let mut statements = Vec::new();
        let postgres = self.engine == SourceDialect::Postgres;
        let mysql = self.engine == SourceDialect::Mysql;
        while let Some(c) = self.peek(0) {
            let next = self.peek(1);
            let quiet = c.is_whitespace()
                || (c == '-' && next == Some('-'))
                || (mysql && c == '#')
                || (c == '/' && next == Some('*'));
            if !self.said && !quiet && c != ';' {
                self.said = true;
                self.began = self.at;
            }
            match c {
                '\'' if mysql || postgres && self.after_escape_prefix() => {
                    self.quoted('\'', BackslashMeaning::Escape)?
                }
                '"' if mysql => self.quoted('"', BackslashMeaning::Escape)?,
                '\'' | '"' => self.quoted(c, BackslashMeaning::Itself)?,
                '`' if !postgres => self.quoted('`', BackslashMeaning::Itself)?,
                '[' if !postgres && !mysql => self.until("]", "an identifier in brackets has no end")?,
                '-' if next == Some('-') => self.line(),
                '#' if mysql => self.line(),
                '/' if next == Some('*') && postgres => self.nested_comment()?,
                '/' if next == Some('*') => self.until("*/", "a comment has no end")?,
                '$' if !mysql && !self.after_word() => self.dollar()?,
                '@' if mysql => self.keep(1),
                '?' | '@' if !postgres => {
                    return Err(self.unreadable("parameters are written `:name`, and this is none"));
                }
                ':' if next == Some(':') || next == Some('=') => self.keep(2),
                ':' if next.is_some_and(is_name_start) => self.name(),
                ';' => {
                    let after = NamedStatement::starting(self.at + 1);
                    let statement = std::mem::replace(&mut self.statement, after);
                    if std::mem::take(&mut self.said) {
                        self.refuse_transaction()?;
                        statements.push(statement);
                    }
                    self.at += 1;
                }
                _ => self.keep(1),
            }
        }
        if self.said {
            self.refuse_transaction()?;
            statements.push(self.statement);
        } else if statements.is_empty() {
            return Err(UnreadableStatement { what: "there is no statement", at: 1 });
        }
        Ok(statements)
    }

    /// An event and the mark that it is written are one transaction, which a statement must not end.
    fn refuse_transaction(&self) -> Result<(), UnreadableStatement> {
        const OF_TRANSACTIONS: [&str; 9] =
            ["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "xa"];
        let word: String = self.characters[self.began..].iter().take_while(|c| is_word(**c)).collect();
        if OF_TRANSACTIONS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(UnreadableStatement {
                what: "the program begins and ends the transaction itself: leave that out",
                at: self.began + 1,
            });
        }
        Ok(())
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).copied()
    }

    fn unreadable(&self, what: &'static str) -> UnreadableStatement {
        UnreadableStatement { what, at: self.at + 1 }
    }

    /// Copies characters unchanged.
    fn keep(&mut self, count: usize) {
        let end = (self.at + count).min(self.characters.len());
        let text = self.statement.texts.last_mut().expect("starts with one text");
        text.extend(&self.characters[self.at..end]);
        self.at = end;
    }

    fn name(&mut self) {
        self.at += 1;
        let rest = &self.characters[self.at..];
        let name: String = rest.iter().take_while(|c| is_word(**c)).collect();
        self.at += name.chars().count();
        self.statement.places.push(name);
        self.statement.texts.push(String::new());
    }

    /// Copies through the closing quote; a doubled or escaped quote does not end the text.
    fn quoted(&mut self, quote: char, backslash: BackslashMeaning) -> Result<(), UnreadableStatement> {
        let error = self.unreadable("a text in quotes has no end");
        self.keep(1);
        loop {
            match self.peek(0) {
                None => return Err(error),
                Some('\\') if backslash == BackslashMeaning::Escape => self.keep(2),
                Some(c) if c == quote && self.peek(1) == Some(quote) => self.keep(2),
                Some(c) if c == quote => {
                    self.keep(1);
                    return Ok(());
                }
                Some(_) => self.keep(1),
            }
        }
    }

    fn line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.keep(1);
        }
    }

    fn until(&mut self, end: &str, what: &'static str) -> Result<(), UnreadableStatement> {
        let error = self.unreadable(what);
        self.keep(end.chars().count());
        while !self.starts_with(end) {
            if self.peek(0).is_none() {
                return Err(error);
            }
            self.keep(1);
        }
        self.keep(end.chars().count());
        Ok(())
    }

    fn nested_comment(&mut self) -> Result<(), UnreadableStatement> {
        let error = self.unreadable("a comment has no end");
        let mut depth = 0;
        loop {
            if self.starts_with("/*") {
                depth += 1;
                self.keep(2);
            } else if self.starts_with("*/") {
                depth -= 1;
                self.keep(2);
                if depth == 0 {
                    return Ok(());
                }
            } else if self.peek(0).is_none() {
                return Err(error);
            } else {
                self.keep(1);
            }
        }
    }

    /// `$tag$ … $tag$` on PostgreSQL. `$1` would clash with our own numbers; on SQLite `$name` is a parameter like any other.
    fn dollar(&mut self) -> Result<(), UnreadableStatement> {
        let foreign = self.unreadable("parameters are written `:name`, and this is none");
        if self.engine == SourceDialect::Sqlite || self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            return Err(foreign);
        }
        let tag: String = self.characters[self.at + 1..].iter().take_while(|c| is_word(**c)).collect();
        if self.peek(1 + tag.chars().count()) != Some('$') {
            self.keep(1);
            return Ok(());
        }
        let error = self.unreadable("a text in dollar quotes has no end");
        let quote = format!("${tag}$");
        let length = quote.chars().count();
        self.keep(length);
        while !self.starts_with(&quote) {
            if self.peek(0).is_none() {
                return Err(error);
            }
            self.keep(1);
        }
        self.keep(length);
        Ok(())
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(index, c)| self.peek(index) == Some(c))
    }

    /// A dollar within an identifier is part of it.
    fn after_word(&self) -> bool {
        self.at > 0 && is_word(self.characters[self.at - 1])
    }

    /// `E'…'`, where a backslash escapes.
    fn after_escape_prefix(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).map(|at| self.characters[at]);
        matches!(before(1), Some('e' | 'E')) && !before(2).is_some_and(|c| is_word(c) || c == '$')
    }
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What a backslash within quotes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BackslashMeaning {
    Itself,
    Escape,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(sql: &str, engine: SourceDialect) -> Vec<(String, Vec<String>)> {
        let read = parse(sql, engine).unwrap_or_else(|error| panic!("{sql}: {error}"));
        read.iter().map(|named| (named.numbered(), named.names().into_iter().map(str::to_owned).collect())).collect()
    }

    fn one(sql: &str, engine: SourceDialect) -> (String, Vec<String>) {
        let mut all = rewritten(sql, engine);
        assert_eq!(all.len(), 1, "{sql}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn names_become_numbers_and_the_same_name_has_the_same_number() {
        for engine in [SourceDialect::Sqlite, SourceDialect::Postgres] {
            let sql = "update leads set hot = coalesce(:hotLead, hot), by=:by_1 where id=:id or key = :id";
            let (text, names) = one(sql, engine);
            assert_eq!(text, "update leads set hot = coalesce($1, hot), by=$2 where id=$3 or key = $3");
            assert_eq!(names, ["hotLead", "by_1", "id"]);
        }
    }

    #[test]
    fn what_only_looks_like_a_parameter_is_left_alone() {
        for sql in [
            "select 'a:b', 'it''s :not', \"odd \"\":name\", '\\', 1 -- :comment",
            "select 1 /* :one /* :two */",
            "select id::text, x := 1, 'a' ':b'",
        ] {
            let (engine, sql) =
                if sql.contains("/*") { (SourceDialect::Sqlite, sql) } else { (SourceDialect::Postgres, sql) };
            assert_eq!(one(sql, engine), (sql.to_owned(), vec![]));
        }
        for sql in [
            "select a[1:2], b[:2], c[1 : n]",
            "select $$ :a $$, $tag$ :b $$ $tag$, a$b$c, E'\\':c', e'\\\\', 'x\\'",
            "select 1 /* :one /* :two */ :three */, x ? ':y', x @> '{}'",
        ] {
            assert_eq!(one(sql, SourceDialect::Postgres), (sql.to_owned(), vec![]));
        }
        let sql = "select `a:b`, [c :d], 'E'";
        assert_eq!(one(sql, SourceDialect::Sqlite), (sql.to_owned(), vec![]));
        // Only a lone E makes a backslash escape.
        assert_eq!(one("select name'\\', :a", SourceDialect::Postgres).1, ["a"]);
    }

    #[test]
    fn several_statements_are_told_apart() {
        let sql = "update a set x = :id; -- one;\n insert into b values (';', :date, :id) ; \n-- the end\n";
        let expected = [
            ("update a set x = $1".to_owned(), vec!["id".to_owned()]),
            (" -- one;\n insert into b values (';', $1, $2) ".to_owned(), vec!["date".to_owned(), "id".to_owned()]),
        ];
        for engine in [SourceDialect::Sqlite, SourceDialect::Postgres] {
            assert_eq!(rewritten(sql, engine), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        for (sql, engine, at) in [
            ("select 'x", SourceDialect::Sqlite, 8),
            ("select \"x", SourceDialect::Postgres, 8),
            ("select 1 /* /* */", SourceDialect::Postgres, 10),
            ("select $a$ $b$", SourceDialect::Postgres, 8),
            ("select $1", SourceDialect::Postgres, 8),
            ("select ?, :a", SourceDialect::Sqlite, 8),
            ("select @a", SourceDialect::Sqlite, 8),
            (" ; -- nothing", SourceDialect::Postgres, 1),
            ("", SourceDialect::Sqlite, 1),
        ] {
            assert_eq!(parse(sql, engine).expect_err(sql).at, at, "{sql}");
        }
    }

    #[test]
    fn a_statement_that_begins_or_ends_a_transaction_is_refused() {
        for engine in [SourceDialect::Sqlite, SourceDialect::Postgres, SourceDialect::Mysql] {
            for (sql, at) in [
                ("BEGIN; update t set a = :id", 1),
                ("update t set a = :id; commit", 23),
                ("update t set a = :id;\n-- done\nEnd;", 31),
                ("/* a */ rollback", 9),
            ] {
                let error = parse(sql, engine).unwrap_err();
                assert_eq!(error.at, at, "{sql}");
                assert!(error.to_string().contains("begins and ends the transaction itself"), "{error}");
            }
            for sql in
                ["update t set start = :id", "call begin_work(:id)", "update t set a = 'x; commit' where b = :id"]
            {
                assert_eq!(parse(sql, engine).map(|all| all.len()), Ok(1), "{sql}");
            }
        }
    }

    #[test]
    fn a_place_in_the_rewritten_statement_is_found_in_the_setting() {
        let sql = "select 1; update t set a = :longName, b = wrong where c = :id";
        let named = &parse(sql, SourceDialect::Postgres).unwrap()[1];
        let write = |place: usize| format!("${}", place + 1);
        let rewritten = named.with(write);
        let at = rewritten.find("wrong").unwrap() + 1;
        assert_eq!(named.position(at, write), sql.find("wrong").unwrap() + 1);
        let at = rewritten.find("$1").unwrap() + 1;
        assert_eq!(named.position(at, write), sql.find(":longName").unwrap() + 1);
    }

    /// Pieces of SQL, each with its role in a statement: text that stays, or a name.
    fn piece() -> impl Strategy<Value = (String, Option<String>)> {
        prop_oneof![
            "[a-z]{1,5} ".prop_map(|text| (text, None)),
            "[^'\\\\]{0,8}".prop_map(|text| (format!(" '{}' ", text.replace('\'', "''")), None)),
            "[^\"]{0,8}".prop_map(|text| (format!(" \"{text}\" "), None)),
            "[^*/]{0,8}".prop_map(|text| (format!(" /*{text}*/ "), None)),
            "[^\n]{0,8}".prop_map(|text| (format!(" --{text}\n"), None)),
            "[^$]{0,8}".prop_map(|text| (format!(" $q${text}$q$ "), None)),
            Just((" x::int, a[1:2], y := 2 ".to_owned(), None)),
            "[a-zA-Z_][a-zA-Z0-9_]{0,6}".prop_map(|name| (format!(" :{name} "), Some(name))),
        ]
    }

    proptest! {
        #[test]
        fn rewriting_touches_the_names_and_nothing_else(pieces in prop::collection::vec(piece(), 1..12)) {
            let sql = format!("select {}", pieces.iter().map(|(text, _)| text.as_str()).collect::<String>());
            let read = parse(&sql, SourceDialect::Postgres).unwrap();
            prop_assert_eq!(read.len(), 1);
            let names: Vec<&String> = pieces.iter().filter_map(|(_, name)| name.as_ref()).collect();
            prop_assert_eq!(read[0].places().iter().collect::<Vec<_>>(), names);
            // Writing the names back gives what was read.
            prop_assert_eq!(&read[0].with(|place| format!(":{}", read[0].places()[place])), &sql);
            let counted = read[0].numbered();
            let mut expected = "select ".to_owned();
            let order = read[0].names();
            for (text, name) in &pieces {
                match name {
                    Some(name) => expected.push_str(&format!(" ${} ", order.iter().position(|n| n == name).unwrap() + 1)),
                    None => expected.push_str(text),
                }
            }
            prop_assert_eq!(counted, expected);
        }

        #[test]
        fn whatever_is_written_is_read_or_refused(sql in "[a-z:'\"$;/*\\-\n\\[\\] \\\\?@]{0,40}") {
            for engine in [SourceDialect::Sqlite, SourceDialect::Postgres] {
                if let Ok(read) = parse(&sql, engine) {
                    let whole: String = read.iter().map(|named| named.with(|place| format!(":{}", named.places()[place]))).collect();
                    prop_assert!(whole.len() <= sql.len());
                }
            }
        }
    }
}
