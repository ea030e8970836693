//! `check --for-conversica`: what to ask and to tell the account manager at Conversica, as a letter to copy. It has names of
//! conversations and reps, and no lead.

use std::fmt::Write as _;

use crate::check::names;
use crate::cli::context::ExitCode;
use crate::config::ServiceSettings;
use crate::console::{printable, say};
use crate::conversica::post::PostKind;
use crate::rules::name_counts::{LeadNames, NameCounts};
use crate::source::crm::ConnectedCrm;
use crate::wording::{counted, number};

/// Names of one list.
const NAMED: usize = 100;

pub async fn run(settings: &ServiceSettings) -> anyhow::Result<ExitCode> {
    let crm = ConnectedCrm::open(settings).await?;
    let names = names::of_all_rows(&crm).await.map_err(|error| crm.explained(error))?;
    crm.db.close().await;
    say(letter(settings, &names).trim_end());
    Ok(ExitCode::Done)
}

fn letter(settings: &ServiceSettings, names: &LeadNames) -> String {
    let mut text = String::new();
    let leads = counted(names.leads, "lead", "leads");
    let _ = writeln!(
        text,
        "For your account manager at Conversica (or apisupport@conversica.com).\n\n\
         We connect our CRM database by the Generic Connector with conversica-sync {}: JSON to {}, apiVersion {},\n\
         user {}. At present {leads} can be sent.\n\nPLEASE CONFIRM\n",
        env!("CARGO_PKG_VERSION"),
        printable(settings.conversica.endpoint.host_str().unwrap_or_default()),
        printable(&settings.conversica.api_version),
        printable(&settings.conversica.username),
    );
    let mut points = vec![
        format!(
            "These conversations exist, are active, and are spelled as here, to the letter:\n{}",
            list(&names.conversations)
        ),
        format!(
            "These reps are users of our account, or aliases, spelled as here (first, middle, last, punctuation):\n{}",
            list(&names.reps)
        ),
        "A default rep is set, for leads whose rep is not found.\n".to_owned(),
        "The integration is approved, and the user may post leads.\n".to_owned(),
        format!(
            "We may send up to {} requests a second, {} at a time.\n",
            settings.delivery.requests_per_second, settings.delivery.concurrency
        ),
    ];
    points.extend(keys(settings));
    points.push(budget(settings));
    for (number, point) in (1..).zip(points) {
        let _ = write!(text, "{number}. {point}");
    }
    text.push_str("\nPLEASE ANSWER\n\n");
    text.push_str(
        "a. Does our account require further keys, such as leadStatus, or year, make and model?\n\
         b. Is a key that we leave out cleared at Conversica, or kept as it was?\n\
         c. What becomes of a lead whose conversation is inactive when it arrives?\n\
         d. After how many refused passwords is a user locked?\n",
    );
    if settings.conversica.test_lead_token.is_none() {
        text.push_str("e. Which Test Lead Token may we use, and with how many leads?\n");
    }
    text.push_str(&receiving(settings));
    text
}

fn list(names: &NameCounts) -> String {
    let list = names.list();
    let mut text = String::new();
    for counted in list.iter().take(NAMED) {
        let name = if counted.name.is_empty() { "(none)".into() } else { printable(&counted.name) };
        let _ = writeln!(text, "   {:>10}  {name}", number(counted.leads));
    }
    let others = names.others() + list.iter().skip(NAMED).map(|counted| counted.leads).sum::<u64>();
    if others > 0 {
        let _ = writeln!(text, "   {:>10}  under further names", number(others));
    }
    for [a, b] in names.near() {
        let _ =
            writeln!(text, "   (\"{}\" and \"{}\" look like one name: which is right?)", printable(&a), printable(&b));
    }
    if list.is_empty() {
        text.push_str("   (no lead is valid yet)\n");
    }
    text
}

fn keys(settings: &ServiceSettings) -> Vec<String> {
    let mut points = Vec::new();
    let custom: Vec<&str> = settings.lead.custom.keys().map(String::as_str).collect();
    if !custom.is_empty() {
        points.push(format!("These keys beyond the published ones are taken: {}.\n", custom.join(", ")));
    }
    if settings.conversica.sms {
        let sms = "Text messages are enabled for our account; we send cellPhone with smsOptIn or smsOptOut.\n";
        points.push(sms.to_owned());
    }
    if !settings.conversica.require_conversation_id {
        points.push("Our leads may go without conversationId.\n".to_owned());
    }
    points
}

fn budget(settings: &ServiceSettings) -> String {
    match settings.safety.new_leads_per_month {
        0 => "How many new leads a month does our contract allow, and on which day does that month begin?\n".to_owned(),
        people => format!(
            "Our contract allows {} new leads a month, from day {} of each month.\n",
            number(people.into()),
            settings.safety.month_starts_on
        ),
    }
}

fn receiving(settings: &ServiceSettings) -> String {
    let Some(receive) = &settings.receive else {
        return "\nWe do not take posts of Conversica yet: no [receive] is set.\n".to_owned();
    };
    let mut text = String::from(
        "\nPLEASE POST TO US (HTTPS, JSON, Basic authentication; the password follows by a safe way; put the public\n\
         name of our server before the paths)\n\n",
    );
    for (kind, paths) in receive.paths() {
        let what = match kind {
            PostKind::LeadUpdate => "Lead Updates",
            PostKind::Message => "Messages",
            PostKind::ChatLead => "Chat Leads",
        };
        let path = paths.first().map(String::as_str).unwrap_or_default();
        let _ = writeln!(text, "   {what:<13} https://<our server>:{}{path}", receive.listen.port());
    }
    let _ = writeln!(text, "   user          {}", printable(&receive.username));
    text.push_str(
        "\n   Please send smsOptOut and smsOptIn with Lead Updates (this is done upon request only), and doNotEmail.\n\
         \x20  From which addresses do you post, how often is a failed post repeated, and how fast may a burst come?\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_asked_about() {
        let mut names = NameCounts::default();
        ["Rae Roe", "Rae Roe", "Rae  Roe"].iter().for_each(|name| names.add(name));
        let list = list(&names);
        assert!(list.starts_with("            2  Rae Roe\n            1  Rae  Roe\n"), "{list}");
        assert!(list.contains("(\"Rae  Roe\" and \"Rae Roe\" look like one name: which is right?)"), "{list}");
        assert_eq!(super::list(&NameCounts::default()), "   (no lead is valid yet)\n");
    }
}
