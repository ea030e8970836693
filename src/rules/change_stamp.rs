//! Columns that say when a row was changed: their names in several languages, and the latest of several such stamps. Pure.

/// `E-Mail_Adresse` → `emailadresse`, `Prénom` → `prenom`, `nameFirstName` → `namefirstname`.
pub fn folded(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'à' | 'á' | 'â' | 'ã' | 'å' | 'ä' => plain.push('a'),
            'ç' => plain.push('c'),
            'è' | 'é' | 'ê' | 'ë' => plain.push('e'),
            'ì' | 'í' | 'î' | 'ï' => plain.push('i'),
            'ñ' => plain.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' => plain.push('o'),
            'ù' | 'ú' | 'û' | 'ü' => plain.push('u'),
            'ß' => plain.push_str("ss"),
            c if c.is_alphanumeric() => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// Names of the time of the last change.
pub const CHANGED_AT: &str = "updatedat modifiedat changedat lastmodified lastmodifieddate lastmodifiedat modifieddate datemodified \
    writedate updated modified changed updatedon modifiedon changedon lastupdate lastupdated lastupdatedat \
    lastchange lastchanged lastchangedat dateupdated updatedate modifydate systemmodstamp modtime mtime tstamp \
    updatetime rowmodified geandertam geaendertam aenderungsdatum anderungsdatum letzteaenderung letzteanderung \
    aktualisiertam modifiele modifie datemodification datedemodification datemodif datemaj misajourle majle \
    fechamodificacion fechademodificacion modificadoen modificadoel actualizadoen actualizadoel \
    ultimamodificacion fechaactualizacion modifiedtime datamodifica dataaggiornamento atualizadoem modificadoem \
    datamodificacao dataatualizacao gewijzigdop bijgewerktop laatstgewijzigd";

/// Whether a column of this name is a stamp, and how sure that is: 0 is the surest.
pub fn rank_stamp(name: &str) -> Option<usize> {
    let folded = folded(name);
    CHANGED_AT.split_whitespace().position(|known| known == folded)
}

/// The function that takes the latest of several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatestFunction {
    /// PostgreSQL: leaves NULL out.
    Greatest,
    /// MySQL: NULL if any argument is.
    GreatestOrNull,
    /// SQLite: NULL if any argument is.
    MaxOrNull,
}

/// The latest of these expressions; each may be NULL.
pub fn latest_of(stamps: &[String], function: LatestFunction) -> String {
    let name = match function {
        LatestFunction::Greatest | LatestFunction::GreatestOrNull => "greatest",
        LatestFunction::MaxOrNull => "max",
    };
    match (stamps, function) {
        ([one], _) => one.clone(),
        (_, LatestFunction::Greatest) => format!("{name}({})", stamps.join(", ")),
        // So each argument falls back to the first other stamp that is not NULL.
        (_, LatestFunction::GreatestOrNull | LatestFunction::MaxOrNull) => {
            let turned = (0..stamps.len()).map(|start| {
                let order = stamps.iter().cycle().skip(start).take(stamps.len());
                format!("coalesce({})", order.cloned().collect::<Vec<_>>().join(", "))
            });
            format!("{name}({})", turned.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The name by which a statement calls a table: its alias, or the table's own name. It reads the text just as far as that.
pub fn alias_in(statement: &str, table: &str) -> String {
    const NO_ALIAS: [&str; 22] = [
        "as",
        "on",
        "using",
        "join",
        "left",
        "right",
        "inner",
        "outer",
        "full",
        "cross",
        "natural",
        "where",
        "order",
        "group",
        "limit",
        "union",
        "except",
        "intersect",
        "having",
        "for",
        "window",
        "lateral",
    ];
    let separated = statement.replace([',', '(', ')', ';'], " ; ");
    let words: Vec<&str> = separated.split_whitespace().collect();
    let plain = |word: &str| word.rsplit('.').next().unwrap_or(word).trim_matches(['"', '`', '[', ']']).to_lowercase();
    for (at, word) in words.iter().enumerate() {
        let is_read = at > 0 && ["from", "join", ";"].contains(&words[at - 1].to_lowercase().as_str());
        if !is_read || plain(word) != table.to_lowercase() {
            continue;
        }
        let next = words[at + 1..].iter().find(|word| !word.eq_ignore_ascii_case("as"));
        let is_name = |word: &&&str| {
            let is_word = word.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
            is_word && !NO_ALIAS.contains(&word.to_lowercase().as_str())
        };
        return next.filter(is_name).map_or_else(|| table.to_owned(), |alias| (*alias).to_owned());
    }
    table.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_known_by_their_names() {
        assert_eq!(rank_stamp("updated_at"), Some(0));
        assert!(rank_stamp("geändert_am").is_some() && rank_stamp("lastModifiedDate").is_some());
        assert_eq!((rank_stamp("created_at"), rank_stamp("name")), (None, None));
    }

    #[test]
    fn the_latest_is_never_null_while_one_is_not() {
        let stamps = ["a.t".to_owned(), "b.t".to_owned()];
        assert_eq!(latest_of(&stamps, LatestFunction::Greatest), "greatest(a.t, b.t)");
        assert_eq!(latest_of(&stamps, LatestFunction::MaxOrNull), "max(coalesce(a.t, b.t), coalesce(b.t, a.t))");
        assert_eq!(latest_of(&stamps[..1], LatestFunction::MaxOrNull), "a.t");
    }

    #[test]
    fn a_table_is_called_by_its_alias() {
        let query =
            "SELECT o.id FROM crm.opportunities AS o JOIN \"Contacts\" c ON c.id = o.contact_id, users\nWHERE true";
        assert_eq!(alias_in(query, "opportunities"), "o");
        assert_eq!(alias_in(query, "Contacts"), "c");
        assert_eq!(alias_in(query, "users"), "users");
        assert_eq!(alias_in("select * from (select 1 from a)", "a"), "a");
    }
}
