//! Recognises tables of the people who work with the CRM, as opposed to the people it is about. Pure.
//!
//! A message to a colleague, an administrator or a login account goes to the wrong person. So `init` never proposes such a table,
//! and no text suggests one. An operator can still name it with `--table`.

use crate::conversica::lead::LeadKey;
use crate::db;
use crate::setup::introspect::table::{InspectedTable, leads_to};
use crate::setup::propose::draft::{ProposalDraft, RowExclusion};
use crate::setup::propose::names::{self, is_person};

/// Words in a table's name that mean staff, or people who log in.
const STAFF: &str = "user users usr usrs resuser resusers login logins employee employees staff admin admins administrator administrators \
    operator operators agent agents rep reps salesrep salesreps salesman salesmen seller sellers owners manager managers worker \
    workers colleague colleagues superuser superusers workspacemember workspacemembers teammember teammembers teammate \
    teammates benutzer mitarbeiter mitarbeiterin angestellte vertreter verkaeufer verkaufer betreuer bearbeiter personal usuario usuarios \
    empleado empleados vendedor vendedores asesor asesores utilisateur utilisateurs employe employes vendeur vendeurs conseiller \
    conseillers salarie salaries funcionario funcionarios colaborador colaboradores utilizador utilizadores utente utenti \
    dipendente dipendenti venditore venditori gebruiker gebruikers medewerker medewerkers verkoper verkopers";
/// Endings of a table of logins, in any compound: `customuser`, `authusers`.
const STAFF_ENDINGS: [&str; 4] = ["user", "users", "benutzer", "mitarbeiter"];
/// Words for people of any kind: the word in front decides.
const ANYBODY: &str = "person persons people persona personas member members account accounts";
/// Prefixes that turn such names into names of staff.
const OF_THE_FIRM: &str = "sales team internal support office company service helpdesk system";

/// Columns that only a login table has.
const LOGIN_COLUMNS: &str = "password passwd pwd pass passwort kennwort motdepasse contrasena senha wachtwoord passwordhash hashedpassword \
    encryptedpassword passworddigest pwdhash pwhash passhash userhash cryptpassword userpassword hash salt passwordsalt \
    issuperuser isstaff isadmin superuser superadmin issystemuser resettoken resetpasswordtoken passwordresettoken \
    twofactorsecret otpsecret totpsecret remembertoken";
/// Columns that a login table often has, and other tables sometimes.
const ACCESS_COLUMNS: &str = "lastlogin lastloginat lastsignin lastsigninat currentsigninat signincount logincount lastlogon datejoined \
    username login loginname userlogin role roles roleid permission permissions privilege privileges accesslevel apikey \
    token sessionid rolle benutzername";

/// Whether a table holds staff by its own name or its own columns.
pub fn is_staff(table: &InspectedTable) -> bool {
    match by_name(&table.name) {
        Some(staff) => staff,
        None => by_columns(table),
    }
}

/// Whether a table holds staff, also judged by the references of other tables.
pub fn is_staff_in(catalog: &[InspectedTable], index: usize) -> bool {
    let table = &catalog[index];
    if by_name(&table.name) == Some(false) {
        return false;
    }
    is_staff(table) || is_owner_elsewhere(catalog, table) || belongs_to_staff(catalog, table)
}

/// The evidence of the name: `Some(true)` for staff, `Some(false)` for leads and other people, `None` for neither.
pub fn by_name(name: &str) -> Option<bool> {
    let words = names::words(name);
    let is = |list: &str, word: &str| list.split(' ').any(|known| known == word);
    let is_staff = |word: &str| is(STAFF, word) || STAFF_ENDINGS.iter().any(|ending| word.ends_with(ending));
    let whole = names::folded(name);
    if is(STAFF, &whole) || whole.contains("salespe") {
        return Some(true);
    }
    // The last known word names the rows: `contact_users` are users, `user_contacts` are contacts.
    for (place, word) in words.iter().enumerate().rev() {
        let before = place.checked_sub(1).map(|before| words[before].as_str()).unwrap_or_default();
        if is(ANYBODY, word) && (is_staff(before) || is(OF_THE_FIRM, before)) || is_staff(word) {
            return Some(true);
        }
        if names::means_leads(word) || names::means_people(word) {
            return Some(false);
        }
    }
    None
}

/// Leaves out people who are also in a table of staff: employees who are persons, users who are partners.
pub fn leave_out_staff(draft: &mut ProposalDraft<'_>) {
    let Some(key) = draft.base.primary_key().map(str::to_owned) else { return };
    // All tables of a record share one key.
    for (values, why) in find_staff_among(draft.catalog, &draft.record()) {
        draft.exclusions.push(RowExclusion { column: key.clone(), values, why });
    }
}

/// The keys of the staff among the rows of these tables, as queries, and why.
pub fn find_staff_among(catalog: &[InspectedTable], persons: &[usize]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, table) in catalog.iter().enumerate() {
        if persons.contains(&index) || !is_staff_in(catalog, index) {
            continue;
        }
        for reference in &table.references {
            let is_same_person = table.primary_key() == Some(reference.column.as_str()) || is_person(&reference.column);
            let is_to_key = |person: &&InspectedTable| {
                let key = person.primary_key();
                leads_to(reference, person) && reference.target.as_deref().is_none_or(|target| key == Some(target))
            };
            let person = persons.iter().map(|person| &catalog[*person]).find(is_to_key).filter(|_| is_same_person);
            let Some(person) = person else { continue };
            let column = db::quote(&reference.column);
            found.push((
                format!("SELECT s.{column} FROM {} AS s WHERE s.{column} IS NOT NULL", table.sql()),
                format!(
                    "\"{}\" of {} refers to {}: those people are staff, and are left out",
                    reference.column,
                    table.setting(),
                    person.setting()
                ),
            ));
        }
    }
    found
}

fn by_columns(table: &InspectedTable) -> bool {
    let count = |list: &str| {
        let names = table.columns.iter().map(|column| names::folded(&column.name));
        names.filter(|name| list.split(' ').any(|known| known == name)).count()
    };
    // One column of a login table is enough; of the others it takes two.
    count(LOGIN_COLUMNS) * 2 + count(ACCESS_COLUMNS) >= 2
}

/// Whether rows of this table own those of another: `leads.owner_id` refers to it.
fn is_owner_elsewhere(catalog: &[InspectedTable], table: &InspectedTable) -> bool {
    let is_owner = |column: &str| {
        [LeadKey::RepId, LeadKey::RepName].into_iter().any(|key| names::likeness(column, names::of(key)).is_some())
    };
    catalog.iter().filter(|other| other.name != table.name).any(|other| {
        let to_this = other.references.iter().filter(|reference| leads_to(reference, table));
        to_this.into_iter().any(|reference| is_owner(&reference.column))
    })
}

/// Whether a table has addresses but no names and refers to a login: the mail addresses or invitations of users.
fn belongs_to_staff(catalog: &[InspectedTable], table: &InspectedTable) -> bool {
    let has = |list: &str| table.columns.iter().any(|column| names::likeness(&column.name, list).is_some());
    let has_name = [names::of(LeadKey::FirstName), names::of(LeadKey::LastName), names::FULL_NAME].into_iter().any(has);
    has(names::of(LeadKey::Email))
        && !has_name
        && table.references.iter().any(|reference| {
            catalog.iter().any(|other| leads_to(reference, other) && by_name(&other.name) == Some(true))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_telling_word_of_a_name_says_who_its_rows_are() {
        for name in [
            "user",
            "users",
            "User",
            "auth_user",
            "res_users",
            "res_user",
            "employee",
            "company_employee",
            "staff",
            "staff_members",
            "admin",
            "account_user",
            "accounts_customuser",
            "party_user",
            "contact_users",
            "operators",
            "agents",
            "sales_rep",
            "SalesRep",
            "salespeople",
            "sales_people",
            "workspaceMember",
            "user_profile",
            "Benutzer",
            "mitarbeiter",
            "tbl_usuarios",
        ] {
            assert_eq!(by_name(name), Some(true), "{name}");
        }
        for name in
            ["leads", "user_contacts", "agent_leads", "person", "crm_lead", "members", "Customer", "sale_opportunity"]
        {
            assert_eq!(by_name(name), Some(false), "{name}");
        }
        assert_eq!(by_name("t_147"), None);
    }
}
