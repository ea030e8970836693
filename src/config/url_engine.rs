//! The engine that a database's URL names, where the program treats it specially or cannot use it. Pure.

/// A URL that no part of the program can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignEngine {
    /// As a part of a sentence about the URL.
    pub what: String,
    pub cure: &'static str,
}

const COPY: &str = "conversica-sync reads SQLite, PostgreSQL (and what speaks its protocol), MySQL 8 and MariaDB 10.6 or newer: copy the \
                    leads into one of them, or let it read a replica there";

/// Whether it is a URL of a MySQL or MariaDB server.
pub fn is_mysql(url: &str) -> bool {
    url.starts_with("mysql:") || url.starts_with("mariadb:")
}

/// `None` for a URL of an engine that can be read, and for one that says nothing.
pub fn refuse(url: &str) -> Option<ForeignEngine> {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let engine = match scheme.as_str() {
        "jdbc" => {
            return Some(ForeignEngine {
                what: "is a URL for Java's JDBC".to_owned(),
                cure: "write it without `jdbc:`, with the user in front of the host, like mysql://user@host/database or \
                       postgres://user@host/database",
            });
        }
        "odbc" => "ODBC",
        "sqlserver" | "mssql" | "tds" => "Microsoft SQL Server",
        "oracle" => "Oracle",
        "db2" => "Db2",
        "firebird" => "Firebird",
        "mongodb" | "mongodb+srv" => "MongoDB",
        "redis" | "rediss" => "Redis",
        "snowflake" => "Snowflake",
        "bigquery" => "BigQuery",
        "clickhouse" => "ClickHouse",
        "mysqlx" => "MySQL's X protocol",
        "http" | "https" => "a web server",
        "mysql" | "mariadb" | "postgres" | "postgresql" => return several_hosts(url),
        _ => return None,
    };
    Some(ForeignEngine { what: format!("is a URL of {engine}, which cannot be read"), cure: COPY })
}

/// `host1,host2:3306`, which some drivers try in turn.
fn several_hosts(url: &str) -> Option<ForeignEngine> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    hosts.contains(',').then(|| ForeignEngine {
        what: "names several hosts".to_owned(),
        cure: "name one: the server to read from, or the address that always leads to it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_cannot_be_read_is_named() {
        for (url, word) in [
            ("sqlserver://sa:secret@host/crm", "Microsoft SQL Server"),
            ("mssql://host/crm", "Microsoft SQL Server"),
            ("oracle://host/crm", "Oracle"),
            ("jdbc:mysql://host/crm", "JDBC"),
            ("mongodb+srv://host/crm", "MongoDB"),
            ("mysql://reader:a,b@one:3306,two:3306/crm", "several hosts"),
            ("postgres://one,two/crm", "several hosts"),
        ] {
            let refused = refuse(url).expect(url);
            assert!(refused.what.contains(word), "{url}: {}", refused.what);
            assert!(!refused.what.contains("secret"), "{}", refused.what);
        }
        for url in ["mysql://reader:a,b@one/crm", "postgres://one/crm?options=a,b", "sqlite:crm.db", "secret", ""] {
            assert_eq!(refuse(url), None, "{url}");
        }
    }
}
