//! Column and table names that CRMs use for Conversica's keys, in several languages. Pure.
//!
//! Names are compared folded: without case, separators and accents. A list is one text with its words separated by blanks; the
//! first word is the surest.

use crate::conversica::lead::LeadKey;

pub use crate::rules::change_stamp::{CHANGED_AT, folded};

/// The words of a name, each folded: `sales_rep`, `SalesRep` and `sales rep` → `sales`, `rep`.
pub fn words(name: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(name.len() + 4);
    let mut was_lower = false;
    for c in name.chars() {
        if was_lower && c.is_uppercase() {
            spaced.push(' ');
        }
        was_lower = c.is_lowercase();
        spaced.push(if c.is_alphanumeric() { c } else { ' ' });
    }
    spaced.split_whitespace().map(folded).collect()
}

/// Words for a person that may precede a name: `lead_email`, `kunde_vorname`.
const OWNERS: &str = "lead contact customer client person prospect primary main kunden kunde interessent cliente contacto cust \
    name txt str";

/// How sure a name is: 100 for the first of a list, less further down and with a prefix from `OWNERS`. `None` where it is not in
/// the list.
pub fn likeness(name: &str, list: &str) -> Option<u32> {
    let place = |name: &str| {
        let place = list.split(' ').position(|known| known == name && !name.is_empty())?;
        Some(u32::try_from(place).unwrap_or(50).min(50))
    };
    let folded = folded(name);
    if let Some(place) = place(&folded) {
        return Some(100 - place);
    }
    OWNERS.split(' ').find_map(|owner| place(folded.strip_prefix(owner)?)).map(|place| 60 - place.min(40))
}

/// Whether a name is in a list, without a prefix.
pub fn is_listed(name: &str, list: &str) -> bool {
    let folded = folded(name);
    list.split_whitespace().any(|known| known == folded)
}

/// Names for a published key; empty where only the operator can know.
pub fn of(key: LeadKey) -> &'static str {
    match key {
        LeadKey::ConversationId => "conversationid conversicaconversation conversicaconversationid conversation",
        LeadKey::FirstName => {
            "firstname fname givenname forename namefirstname namefirst vorname prenom nombre nombrepila \
            primernombre voornaam first given nome primeironome nomeproprio roepnaam"
        }
        LeadKey::LastName => {
            "lastname lname surname familyname namelastname namelast nachname familienname nomdefamille \
            nomfamille apellido apellidos achternaam cognome last family nom sobrenome apelido ultimonome familienaam"
        }
        LeadKey::Email => {
            "email emailaddress emailnormalized emailsprimaryemail primaryemail emailfrom mail emailadresse \
            mailadresse adressemail adresseemail courriel correo correoelectronico email1 mailaddress emailid \
            useremail eml emailadres postaelettronica indirizzoemail enderecoemail correioeletronico"
        }
        LeadKey::LeadSource => {
            "leadsource source leadorigin origin quelle herkunft origen fuente provenance origine utmsource \
            channel kanal sourcename provenienza fonte origem bron herkomst"
        }
        LeadKey::LeadStatus => {
            "leadstatus status stage leadstage estado statut etat etape phase statusname stagename state stato situacao"
        }
        LeadKey::LeadType => "leadtype type typ art tipo category",
        LeadKey::LeadSubStatus => "leadsubstatus substatus",
        LeadKey::OptOut => {
            "optout emailoptout hasoptedoutofemail donotemail donotcontact donotmail donotmessage unsubscribed \
            isunsubscribed isblacklisted blacklisted blacklist optedout hasoptedout emailoptedout optoutemail \
            nocontact nomail noemail noemails dontemail dontcontact donotcontactflag dnc dne unsubscribe \
            unsubscribedat unsubscribedon optedoutat optoutat optoutdate keinewerbung werbesperre kontaktsperre \
            abgemeldet abgemeldetam nichtkontaktieren keinemail keineemail desinscrit desabonne nepascontacter \
            pasdemail nocontactar nomolestar sincorreo nodesecontacto desabonnee desinscrite nepasenvoyeremail \
            noenviarcorreo desuscrito dadodebaja descadastrado naocontatar naoenviaremail semcontato disiscritto \
            disiscritta noncontattare nocontatto afgemeld uitgeschreven nietmailen geenmail geenemail nietcontacteren \
            geencontact"
        }
        LeadKey::SmsOptOut => {
            "smsoptout optoutsms donotsms donottext nosms notexts textoptout smsunsubscribed smsoptedout keinesms \
            sinsms"
        }
        LeadKey::SmsOptIn => "smsoptin optinsms smsconsent textconsent textoptin smsok smsallowed",
        LeadKey::StopMessaging => "stopmessaging stopmessages",
        LeadKey::SkipToFollowup => "skiptofollowup",
        LeadKey::RepId => {
            "ownerid assigneduserid repid salesrepid salespersonid assignedtoid assigneeid agentid userid \
            accountownerid accountmanagerid employeeid staffid betreuerid bearbeiterid mitarbeiterid vertreterid \
            verkaeuferid verkauferid commercialid vendeurid conseillerid responsableid vendedorid comercialid \
            asesorid idvendedor idcommercial idvendeur venditoreid idvenditore agenteid idagente verkoperid"
        }
        LeadKey::RepName => {
            "repname ownername salesrepname salespersonname assignedto assignedtoname owner salesrep salesperson \
            rep agent agentname assignee accountmanager accountowner betreuer bearbeiter kundenberater \
            verkaeufer verkaufer vertreter mitarbeiter commercial vendeur conseiller responsable vendedor \
            comercial asesor assigneduser venditore agente responsabile commerciale responsavel corretor verkoper accountbeheerder"
        }
        LeadKey::RepEmail => {
            "repemail owneremail salesrepemail salespersonemail assignedtoemail agentemail accountmanageremail \
            accountowneremail betreueremail betreuermail bearbeiteremail emailcommercial emailvendeur \
            emailvendedor correovendedor vendedoremail commercialemail"
        }
        LeadKey::HomePhone => {
            "homephone phonehome phone phonenumber phonesprimaryphonenumber telephone tel telefon telefonnummer \
            telefono numerodetelephone telefoonnummer rufnummer telprivat telefonprivat phone1 fon telefone telefoon telefonecasa telefonocasa"
        }
        LeadKey::WorkPhone => {
            "workphone phonework businessphone officephone phoneoffice telefongeschaeftlich telefondienstlich \
            telefonbuero telefonofirma telephonebureau telefonotrabajo phone2 telefonoufficio telefonocomercial telefonecomercial telefoonwerk"
        }
        LeadKey::CellPhone => {
            "cellphone mobile mobilephone phonemobile mobileno cellno cell cellnumber mobilenumber phonecell mobil mobiltelefon \
            mobilnummer handy handynummer portable telephoneportable mobiel movil celular telefonomovil sms cellulare telefonocellulare telemovel telefonecelular gsm mobieltje mobielnummer"
        }
        LeadKey::Address => {
            "address street address1 addressline1 streetaddress primaryaddressstreet addressstreet \
            addressaddressstreet1 strasse anschrift adresse rue direccion calle domicilio straat mailingstreet indirizzo endereco morada rua adres straatnaam"
        }
        LeadKey::City => {
            "city town primaryaddresscity addresscity addressaddresscity ort stadt wohnort ville ciudad poblacion \
            plaats mailingcity localidad citta comune cidade localidade woonplaats stad"
        }
        LeadKey::State => {
            "state region province primaryaddressstate addressstate addressaddressstate stateprovince statecode \
            bundesland departement provincia mailingstate regione uf provincie"
        }
        LeadKey::Zip => {
            "zip zipcode postalcode postcode primaryaddresspostalcode addresszip addresspostalcode \
            addressaddresspostcode plz postleitzahl codepostal cp codigopostal mailingpostalcode codicepostale cep"
        }
        LeadKey::Date => {
            "createdat createddate created createdate createdon datecreated dateentered creationdate dateadded \
            addedat insertedat enteredat creationtime crdate angelegtam erstelltam erfasstam anlagedatum erstellungsdatum \
            creele datecreation datedecreation creadoen creadoel fechacreacion fechaalta fechadecreacion regdate \
            signupdate createdtime creatoil datacreazione datainserimento criadoem datacriacao datacadastro aangemaaktop aanmaakdatum"
        }
        LeadKey::Year => "vehicleyear modelyear caryear",
        LeadKey::Make => "vehiclemake carmake",
        LeadKey::Model => "vehiclemodel carmodel",
        LeadKey::Vin => "vin vehiclevin fahrgestellnummer",
        LeadKey::AppointmentDate => "appointmentdate appointmentat",
        LeadKey::AppointmentStatus => "appointmentstatus",
        LeadKey::HomeEmail => "homeemail emailhome privateemail personalemail",
        LeadKey::WorkEmail => "workemail emailwork businessemail companyemail",
        LeadKey::AltEmail => "altemail email2 secondaryemail otheremail secondemail alternateemail",
        _ => "",
    }
}

/// Names of a column with a person's full name.
pub const FULL_NAME: &str = "fullname contactname personname name displayname leadname customername realname nameandsurname \
    nombrecompleto nombreyapellidos nomcomplet nomprenom vollername kundenname ansprechpartner nomecompleto nomecognome nominativo volledigenaam naam klantnaam";

/// Names of a row's key, where the catalog declares none.
pub const KEY: &str = "id leadid uuid guid recordid contactid nr nummer kundennummer idlead";

/// A row with this flag set, or this time filled in, is deleted for the users of the CRM.
pub const DELETED: &str = "deleted isdeleted deletedat deletedon deletiondate trashed trashedat removed isremoved archived isarchived \
    archivedat archivedon geloescht geloscht geloeschtam geloschtam loeschkennzeichen supprime supprimele eliminado borrado \
    borradoen eliminadoel trash istrash istrashed intrash trashedon softdeleted softdeletedat deletedflag deleteflag delflag isdel datedeleted \
    deleteddate deletedate deletetime deletedtime discardedat discarded removedat destroyedat recyclebin archiviert archiviertam archive \
    archivele papierkorb corbeille papelera lixeira archivado eliminato eliminatoil cancellato cestino excluido excluidoem \
    apagado apagadoem removido arquivado verwijderd verwijderdop gearchiveerd";

/// A row without this flag may be out of use; or just not active.
pub const ACTIVE: &str = "active isactive aktiv istaktiv actif activo enabled isenabled attivo ativo actief inuse";

/// The opposite of an opt-out: a yes to messages.
pub const OPT_IN: &str = "optin emailoptin newsletter newsletterok newsletteroptin subscribed issubscribed consent marketingconsent \
    emailconsent gdprconsent hasconsent mayemail maycontact canemail cancontact allowemail allowmarketing \
    allowcontact acceptsmarketing marketingok emailok mailok contactok marketing marketingoptin emailallowed \
    werbungerlaubt werbungok werbeerlaubnis einwilligung werbeeinwilligung dsgvo dsgvoeinwilligung \
    kontakterlaubt consentement accepteemail abonne consentimiento aceptapublicidad suscrito permission \
    lawfulbasis";

/// Consent that no key of a lead can hold.
pub const OTHER_CONSENT: &str = "donotcall nocall phoneoptout donotphone calloptout hasoptedoutoffax donotfax donotsend phoneblacklisted \
    isphoneblacklisted mobileblacklisted invalidemail emailbounced bounced hardbounce";

/// Whether the proposal must at least name an unused column, whatever its values are: it always mentions possible consent columns
/// and marks of rows out of use.
pub fn speaks_of_consent_or_use(name: &str) -> bool {
    const PARTS: &str = "optout optin unsubscri donot blacklist consent optedout gdpr dsgvo rgpd lgpd werbe einwillig desabon desinscri \
        descadastr disiscri afgemeld consentim suppress newsletter massmail subscri contactable disqualif deceased gesperrt \
        robinson anonymi merged emailstatus marketingstatus sendemail sendmail oktoemail oktocontact oktomail emailpermission blocklist";
    const NAMES: &str = "inactive blocked banned bounced spam junk isjunk isspam istest isuser isstaff issuperuser baja refus bloqueado valid \
        isvalid ban emailvalid isemailvalid";
    let keys = [LeadKey::OptOut, LeadKey::SmsOptOut, LeadKey::SmsOptIn, LeadKey::StopMessaging].map(of);
    let folded = folded(name);
    PARTS.split(' ').any(|part| folded.contains(part))
        || is_listed(name, NAMES)
        || keys.into_iter().chain([OPT_IN, OTHER_CONSENT, DELETED, ACTIVE]).any(|list| likeness(name, list).is_some())
}

const LEAD_TABLES: &str = "lead leads crmlead crmleads salesleads prospect prospects interessent interessenten inquiry inquiries enquiry \
    enquiries anfrage anfragen prospecto prospectos opportunity opportunities opportunite opportunites oportunidad \
    oportunidades oportunidade opportunita";
const PEOPLE_TABLES: &str = "contact contacts kontakt kontakte person people persons customer customers kunde kunden clients clientes \
    contactos client personen crmcontacts subscribers applicants students patients members party parties contacto cliente persona \
    personas personne personnes contatto contatti contato contatos persone pessoa pessoas klant klanten contactpersoon \
    contactpersonen abonnes abonnenten member subscriber";

/// Whether this word in a table's name means leads.
pub fn means_leads(word: &str) -> bool {
    is_listed(word, LEAD_TABLES)
}

/// Whether this word in a table's name means people that a business deals with.
pub fn means_people(word: &str) -> bool {
    is_listed(word, PEOPLE_TABLES)
}

/// Whether a table of this name may list people who want no messages, or who are out of use.
pub fn may_list_excluded_people(name: &str) -> bool {
    const PARTS: &str = "unsubscri suppress blacklist blocklist optout optedout donotcontact donotmail donotemail donotcall robinson \
        werbesperre kontaktsperre desabon desinscri disiscri afgemeld";
    let folded = folded(name);
    PARTS.split_whitespace().any(|part| folded.contains(part)) || is_of_deleted_rows(name)
}

/// Whether a table of this name keeps deleted rows.
fn is_of_deleted_rows(name: &str) -> bool {
    const DELETED_WORDS: &str = "deleted trash trashed removed erased geloescht geloeschte supprimes eliminados";
    words(name).iter().any(|word| is_listed(word, DELETED_WORDS))
}

/// How likely a table of this name holds leads.
pub fn table_likeness(name: &str) -> i32 {
    const BUSINESSES: &str = "accounts respartner";
    const LEFT_OVERS: &str = "log history audit backup bak tmp temp archive import old cstm rel";
    let full_name = name;
    let last = words(name).pop().unwrap_or_default();
    let name = folded(name);
    let mut score = 0;
    if means_leads(&name) {
        score += 40;
    } else if means_leads(&last) {
        score += 36;
    } else if means_people(&name) {
        score += 22;
    } else if means_people(&last) {
        score += 20;
    } else if name.contains("lead") || name.contains("prospect") || name.contains("interessent") {
        score += 15;
    } else if BUSINESSES.split(' ').any(|known| known == name) {
        score -= 30;
    }
    if LEFT_OVERS.split(' ').any(|part| name.ends_with(part)) {
        score -= 30;
    }
    // Such a table is never proposed without the operator's choice.
    if is_of_deleted_rows(full_name) {
        score -= 60;
    }
    score
}

/// Whether a column of this name refers to the person of a row.
pub fn is_person(column: &str) -> bool {
    PERSON.contains(&folded(column).as_str())
}

/// Columns that link a member of staff to a person, or a person to a company.
pub(crate) const PERSON: [&str; 8] =
    ["partnerid", "personid", "contactid", "employeeid", "partner", "person", "party", "partyid"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_dialects_mean_the_same() {
        for name in
            ["first_name", "FirstName", "fname", "given-name", "Vorname", "Prénom", "lead_first_name", "nameFirstName"]
        {
            assert!(likeness(name, of(LeadKey::FirstName)).is_some(), "{name}");
        }
        for name in ["geändert_am", "geaendert_am", "updatedAt", "date_modified", "fecha_modificación", "modifié_le"]
        {
            assert!(likeness(name, CHANGED_AT).is_some(), "{name}");
        }
        assert!(likeness("E-Mail", of(LeadKey::Email)) > likeness("lead_email", of(LeadKey::Email)));
        assert_eq!(likeness("fnamed", of(LeadKey::FirstName)), None);
        for name in ["sales_rep", "SalesRep", "sales rep", "salesRep"] {
            assert_eq!(words(name), ["sales", "rep"], "{name}");
        }
    }

    #[test]
    fn italian_portuguese_and_dutch_names_are_known() {
        for (name, key) in [
            ("nome", LeadKey::FirstName),
            ("Primeiro_Nome", LeadKey::FirstName),
            ("voornaam", LeadKey::FirstName),
            ("cognome", LeadKey::LastName),
            ("sobrenome", LeadKey::LastName),
            ("achternaam", LeadKey::LastName),
            ("indirizzo_email", LeadKey::Email),
            ("endereço_email", LeadKey::Email),
            ("origem", LeadKey::LeadSource),
            ("herkomst", LeadKey::LeadSource),
            ("cellulare", LeadKey::CellPhone),
            ("telemóvel", LeadKey::CellPhone),
            ("telefoon", LeadKey::HomePhone),
            ("città", LeadKey::City),
            ("woonplaats", LeadKey::City),
            ("codice_postale", LeadKey::Zip),
            ("venditore", LeadKey::RepName),
            ("responsável", LeadKey::RepName),
            ("verkoper", LeadKey::RepName),
            ("data_creazione", LeadKey::Date),
            ("criado_em", LeadKey::Date),
            ("aangemaakt_op", LeadKey::Date),
        ] {
            assert!(likeness(name, of(key)).is_some(), "{name}");
        }
    }

    #[test]
    fn a_yes_to_messages_is_no_opt_out() {
        for name in ["newsletter_ok", "email_opt_in", "subscribed", "gdpr_consent", "Einwilligung", "may_contact"] {
            assert_eq!(likeness(name, of(LeadKey::OptOut)), None, "{name}");
            assert!(likeness(name, OPT_IN).is_some(), "{name}");
        }
        for name in ["do_not_email", "email_opt_out", "donotcontact", "unsubscribed", "is_blacklisted", "désabonné"] {
            assert!(likeness(name, of(LeadKey::OptOut)).is_some(), "{name}");
            assert_eq!(likeness(name, OPT_IN), None, "{name}");
        }
    }

    #[test]
    fn no_name_is_in_the_lists_of_two_keys() {
        let mut seen = std::collections::BTreeMap::new();
        for key in LeadKey::ALL {
            for name in of(*key).split(' ').filter(|name| !name.is_empty()) {
                // A `state` is a status or a place: the other columns decide.
                if let Some(other) = seen.insert(name, *key) {
                    assert_eq!(name, "state", "{name} is {other} and {key}");
                }
            }
        }
    }
}
