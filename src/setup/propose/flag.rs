//! Yes-or-no columns whose names suggest consent or rows out of use, and the SQL conditions that leave out such rows. Pure.
//!
//! The proposal uses only clear cases; it names every other column of this kind, so that the operator decides.

use crate::db;
use crate::rules::source_column::TypeFamily;
use crate::setup::introspect::table::TableColumn;
use crate::setup::propose::dialect::SqlDialect;
use crate::setup::propose::names;
use crate::setup::propose::proposal::RowsKept;
use crate::setup::propose::shape::{self, ShapeFit, is_time_column};

/// The likely meaning of a yes in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagMeaning {
    /// The person wants no messages.
    Refusal,
    /// The person agreed to messages.
    Permission,
    /// The row, or the person, is out of use.
    OutOfUse,
    /// The row is in use; a no takes it out.
    InUse,
    /// The person works with the CRM.
    StaffMark,
}

const REFUSALS: &str = "unsubscri optout optedout donot dont nocontact nocall nomail noemail nosms notext blacklist suppress objection \
    werbesperre kontaktsperre mailsperre werbeverbot widerspr widerruf keinewerb keinemail keineemail keinkontakt abmeld abgemeld \
    desabon desinscri refus nepas noncontact nocontactar norecib nomolest noenviar nodesea desuscri debaja \
    descadastr naocontat naoenvi semcontat disiscri nonscrivere afgemeld uitgeschreven nietmailen geenmail nietcontact geencontact";
const REFUSAL_WORDS: &str = "dnc dne dnm baja stop";
/// Words that negate the next word: `no_contact`, not `phone_no`.
const DENIALS: &str = "no not kein keine nicht ne pas sin sem nao non senza geen niet";
const PERMISSIONS: &str = "optin optedin newsletter massmail mailing subscri contactable contactok emailok mailok smsok phoneok consent gdpr \
    dsgvo rgpd lgpd marketing allow permi accept agree mayemail maycontact maymail cancontact canemail canmail \
    einwillig zustimm werbung erlaubt abonn suscri inscri consentim aceita aceito autoriz acconsent iscritt ingeschreven toestemming akkoord \
    rundbrief boletin infolettre nieuwsbrief receivesemail receiveemail wantsemail wantsmail";
const OUT_OF_USE: &str = "bounce disqualif unqualif inactiv inaktiv inactif inattiv inativ notactiv disabled deactiv deaktiv desactiv disattiv blocked \
    banned blocklist gesperrt sperre bloquead bloque bloccat geblokkeerd deceased verstorben decede fallecid falecid deceduto overleden \
    archiv deleted trash papierkorb corbeille cestino lixeira papelera hidden invalidemail emailinvalid undeliverable \
    unzustellbar gelosch geloesch supprim eliminad borrad cancellat verwijder excluid apagad testlead testdata";
const OUT_OF_USE_WORDS: &str =
    "spam junk dead died test dummy fake bot banned blocked bloque duplicate dead removed retired expired";
const IN_USE: &str = "active activ aktiv actif activo ativo attivo actief enabled inuse";
const STAFF_MARKS: &str = "user users staff superuser employee admin administrator agent operator internal colleague benutzer mitarbeiter intern \
    utilisateur employe usuario empleado funcionario utente dipendente gebruiker medewerker interne interno";

/// Words for no that a column may hold, in lower case, as an SQL list.
pub const NO_WORDS: &str =
    "'0', '0.0', 'f', 'false', 'n', 'no', 'off', 'nein', 'non', 'falsch', 'faux', 'falso', 'nee', 'nao', 'não', '-'";
const YES_WORDS: &str = "'1', '1.0', 't', 'true', 'y', 'yes', 'on', 'x', 'ja', 'j', 'wahr', 'o', 'oui', 'vrai', 's', 'si', 'sí', 'sì', 'sim', \
                         'verdadero', 'vero'";

/// Whether a column holds yes and no: by its type, or by all its sampled values.
pub fn is_yes_or_no(column: &TableColumn) -> bool {
    let truths = shape::fit(column, |text| shape::truth(text).is_some());
    match column.family {
        TypeFamily::Boolean => true,
        // A number column without values may hold anything; a name that ends in id is a reference.
        TypeFamily::Integer => {
            truths != ShapeFit::Misfits && names::words(&column.name).last().is_none_or(|last| last != "id")
        }
        TypeFamily::Number | TypeFamily::Text | TypeFamily::Other(_) => {
            truths == ShapeFit::Fits && column.values().next().is_some()
        }
        TypeFamily::Date | TypeFamily::Timestamp | TypeFamily::TimestampTz | TypeFamily::Uuid | TypeFamily::Json => {
            false
        }
    }
}

/// The likely meaning of a yes, from the column's name; `None` where the name suggests none.
pub fn find_meaning(column: &TableColumn) -> Option<FlagMeaning> {
    let is_time = is_time_column(column);
    if !is_yes_or_no(column) && !is_time {
        return None;
    }
    let (folded, words) = (names::folded(&column.name), names::words(&column.name));
    let holds = |parts: &str| parts.split_whitespace().any(|part| folded.contains(part));
    let is_word =
        |list: &str| list.split_whitespace().any(|known| folded == known || words.iter().any(|word| word == known));
    // `last_active_at` and `mailing_date` are times with another meaning.
    if is_time {
        return if holds(REFUSALS) || is_word("dnc dne baja") {
            Some(FlagMeaning::Refusal)
        } else if holds(OUT_OF_USE) || is_word("died dead") {
            Some(FlagMeaning::OutOfUse)
        } else {
            None
        };
    }
    if is_staff_mark(&column.name) {
        Some(FlagMeaning::StaffMark)
    } else if holds(REFUSALS) || is_word(REFUSAL_WORDS) || is_denial(&words) {
        Some(FlagMeaning::Refusal)
    } else if holds(OUT_OF_USE) || is_word(OUT_OF_USE_WORDS) {
        Some(FlagMeaning::OutOfUse)
    } else if holds(PERMISSIONS) {
        Some(FlagMeaning::Permission)
    } else {
        is_word(IN_USE).then_some(FlagMeaning::InUse).or_else(|| {
            // `isactive` has no separator between its words.
            let rest = folded.strip_prefix("is").or_else(|| folded.strip_prefix("ist"))?;
            IN_USE.split(' ').any(|known| known == rest).then_some(FlagMeaning::InUse)
        })
    }
}

fn is_denial(words: &[String]) -> bool {
    words.len() > 1 && DENIALS.split(' ').any(|known| known == words[0])
}

/// `is_staff`, `is_user_id`, `istMitarbeiter`.
pub fn is_staff_mark(name: &str) -> bool {
    let folded = names::folded(name);
    let rest = ["is", "ist", "est", "es", "e"].into_iter().find_map(|verb| {
        let rest = folded.strip_prefix(verb)?;
        Some(rest.strip_suffix("id").unwrap_or(rest))
            .filter(|rest| STAFF_MARKS.split_whitespace().any(|known| known == *rest))
    });
    rest.is_some()
}

/// The condition that keeps a row, for a column in the table with this prefix.
pub fn write_condition(column: &TableColumn, kept: RowsKept, dialect: SqlDialect, prefix: &str) -> String {
    let name = format!("{prefix}{}", db::quote(&column.name));
    if kept == RowsKept::WithoutReference {
        return format!("{name} IS NULL");
    }
    if is_time_column(column) && kept == RowsKept::Unset {
        return match (dialect, &column.family) {
            (SqlDialect::Postgres, TypeFamily::Date | TypeFamily::Timestamp | TypeFamily::TimestampTz) => {
                format!("{name} IS NULL")
            }
            // A zero date, with or without fractions of a second, is no time.
            (SqlDialect::Mysql, TypeFamily::Date | TypeFamily::Timestamp | TypeFamily::TimestampTz) => {
                format!("coalesce(CAST({name} AS text), '0000') LIKE '0000%'")
            }
            // A text may be blank instead of NULL, and tables copied from other engines may hold a zero time.
            _ => format!("coalesce(CAST({name} AS text), '') IN ('', '0', '0000-00-00', '0000-00-00 00:00:00')"),
        };
    }
    match (&column.family, dialect) {
        (TypeFamily::Boolean, SqlDialect::Postgres) => match kept {
            RowsKept::Unset => format!("{name} IS NOT TRUE"),
            RowsKept::NotDenied => format!("{name} IS NOT FALSE"),
            RowsKept::Set | RowsKept::WithoutReference => format!("{name} IS TRUE"),
        },
        (TypeFamily::Integer | TypeFamily::Number, SqlDialect::Postgres)
        | (TypeFamily::Boolean | TypeFamily::Integer | TypeFamily::Number, SqlDialect::Mysql) => {
            write_number_condition(&name, kept)
        }
        // SQLite stores any value in a column of any type: a boolean may be 0, 'f' or 'false'.
        (TypeFamily::Boolean | TypeFamily::Integer | TypeFamily::Number, SqlDialect::Sqlite)
            if holds_numbers(column) =>
        {
            write_number_condition(&name, kept)
        }
        _ => {
            let word = format!("lower(trim(coalesce(CAST({name} AS text), '')))");
            match kept {
                // An unforeseen word counts against the row: in doubt, no message is sent.
                RowsKept::Unset => format!("{word} IN ('', {NO_WORDS})"),
                RowsKept::NotDenied => format!("{word} NOT IN ({NO_WORDS})"),
                RowsKept::Set | RowsKept::WithoutReference => format!("{word} IN ({YES_WORDS})"),
            }
        }
    }
}

fn write_number_condition(name: &str, kept: RowsKept) -> String {
    match kept {
        RowsKept::Unset => format!("coalesce({name}, 0) = 0"),
        RowsKept::NotDenied => format!("coalesce({name}, 1) <> 0"),
        RowsKept::Set | RowsKept::WithoutReference => format!("coalesce({name}, 0) <> 0"),
    }
}

fn holds_numbers(column: &TableColumn) -> bool {
    column.values().next().is_some() && column.values().all(|value| value.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(name: &str) -> TableColumn {
        TableColumn {
            name: name.to_owned(),
            type_name: "bool".to_owned(),
            family: TypeFamily::Boolean,
            readable: true,
            not_null: false,
            samples: Vec::new(),
        }
    }

    #[test]
    fn flags_are_known_in_several_languages() {
        let expected = [
            (
                FlagMeaning::Permission,
                "massmail mass_mail mailing newsletter subscribed opt_in contactable gdpr consent marketing email_ok allow_email",
            ),
            (
                FlagMeaning::Refusal,
                "unsubscribed optout no_contact do_not_call dnc werbesperre abgemeldet désabonné refus baja descadastrado disiscritto afgemeld",
            ),
            (
                FlagMeaning::OutOfUse,
                "bounced disqualified inactive blocked banned archived is_test deceased spam junk gesperrt bloqueado",
            ),
            (FlagMeaning::InUse, "active is_active isActive aktiv actief"),
            (FlagMeaning::StaffMark, "is_user is_staff isStaff is_superuser ist_mitarbeiter"),
        ];
        for (meaning, list) in expected {
            for name in list.split(' ') {
                assert_eq!(find_meaning(&flag(name)), Some(meaning), "{name}");
            }
        }
        for name in ["is_vip", "has_car", "verified", "is_company", "paid"] {
            assert_eq!(find_meaning(&flag(name)), None, "{name}");
        }
    }

    #[test]
    fn a_word_that_was_not_thought_of_counts_against_the_row() {
        let text = TableColumn { family: TypeFamily::Text, ..flag("deleted") };
        let condition = write_condition(&text, RowsKept::Unset, SqlDialect::Sqlite, "l.");
        assert!(
            condition.starts_with("lower(trim(coalesce(CAST(l.\"deleted\" AS text), ''))) IN ('', '0'"),
            "{condition}"
        );
        let condition = write_condition(&flag("active"), RowsKept::NotDenied, SqlDialect::Postgres, "");
        assert_eq!(condition, "\"active\" IS NOT FALSE");
    }
}
