//! `[[alerts.channel]]`: its kinds, its secrets, what each form needs.

use super::*;
use crate::config::{AlertKind, ChannelFormat};

fn with(channel: &str) -> String {
    format!("{MINIMAL}[[alerts.channel]]\n{channel}")
}

fn refused(channel: &str) -> String {
    load_with(&with(channel), &[]).expect_err(channel).to_string()
}

const HOOK: &str = "url = \"https://hooks.example.com/hidden-hook\"\n";
const MAIL: &str = "format = \"email\"\nsmtp_url = \"smtps://u:hidden-password@mail.example.com\"\nfrom = \"s@example.com\"\n\
                    to = [\"Ops <o@example.com>\"]\n";

#[test]
fn a_channel_is_read_with_its_kinds_and_headers() {
    let directory = TempDir::new().expect("it works");
    let file = directory.path().join("key");
    fs::write(&file, "Bearer of-the-file\n").expect("it works");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it works");
    let text = with(&format!(
        "{HOOK}kinds = [\"halted\", \"hot_lead\"]\nformat = \"teams\"\n\
         headers = {{ Authorization_file = \"{}\", X-Team = \"hidden-team\" }}\n[[alerts.channel]]\nname = \"post\"\n{MAIL}",
        file.display()
    ));
    let loaded = loaded(&text, &[("CONVERSICA_SYNC__ALERTS__CHANNEL__1__HEADERS", "")][..0]);
    let alerts = &loaded.settings.alerts;
    assert!(alerts.is_on());
    assert_eq!(alerts.channel[0].kinds, Some(vec![AlertKind::Halted, AlertKind::HotLead]));
    assert_eq!((alerts.channel[0].format(), alerts.channel[1].format()), (ChannelFormat::Teams, ChannelFormat::Email));
    assert_eq!(
        (alerts.channel[0].name_at(0), alerts.channel[1].name_at(1)),
        ("channel.0".to_owned(), "post".to_owned())
    );
    let headers: Vec<(&str, &str)> =
        alerts.channel[0].headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(headers, [("Authorization", "Bearer of-the-file"), ("X-Team", "hidden-team")]);
    for said in
        [show::text(&loaded.effective), show::json(&loaded.effective).to_string(), format!("{:?}", loaded.effective)]
    {
        for secret in ["hidden", "of-the-file"] {
            assert!(!said.replace("(hidden)", "").contains(secret), "{said}");
        }
        assert!(said.contains("alerts.channel.0.headers"), "{said}");
    }
}

#[test]
fn headers_come_from_a_variable_too() {
    let text = with(HOOK);
    let loaded = loaded(&text, &[("CONVERSICA_SYNC__ALERTS__CHANNEL__0__HEADERS", "{ X-Key = \"k\" }")]);
    assert_eq!(loaded.settings.alerts.channel[0].headers["X-Key"].expose_secret(), "k");
    let message =
        load_with(&text, &[("CONVERSICA_SYNC__ALERTS__CHANNEL__0__HEADERS", "X-Key: hidden")]).expect_err("refused");
    says(&message.to_string(), &["`alerts.channel.0.headers` must be a table", "{ Authorization = "]);
    assert!(!message.to_string().contains("hidden"));
}

#[test]
fn an_unknown_kind_is_refused_with_the_nearest_name() {
    let message = refused(&format!("{HOOK}kinds = [\"halted\", \"hot_leads\"]\n"));
    says(
        &message,
        &[
            "conversica-sync.toml:",
            "`alerts.channel.0.kinds` has `hot_leads`, which is not known: did you mean `hot_lead`?",
        ],
    );
    says(&message, &["\"poll_failing\""]);
    says(&refused(&format!("{HOOK}kinds = []\n")), &["is an empty list", "all kinds"]);
    says(&refused(&format!("{HOOK}format = \"slak\"\n")), &["did you mean `slack`?"]);
}

#[test]
fn each_form_says_what_it_lacks() {
    says(&refused("format = \"slack\"\n"), &["has neither `url` nor `command`", "url_file"]);
    says(&refused("format = \"pagerduty\"\n"), &["`alerts.channel.0.routing_key` is not set", "routing_key_file"]);
    says(
        &refused("format = \"email\"\n"),
        &["smtp_url` is not set", "alerts.channel.0.to` is not set", "alerts.channel.0.from`"],
    );
    says(
        &refused(&format!("{HOOK}command = \"x\"\n")),
        &["both `alerts.channel.0.url` and `alerts.channel.0.command` are set"],
    );
    says(
        &refused(&format!("{HOOK}to = [\"o@example.com\"]\n")),
        &["`alerts.channel.0.to` is set", "format = \"email\""],
    );
    says(
        &refused(&format!("{HOOK}format = \"email\"\nfrom = \"s@example.com\"\nto = [\"o@example.com\"]\n")),
        &["Set `smtp_url` instead"],
    );
    says(&refused(&MAIL.replace("o@example.com", "nobody")), &["which is no e-mail address"]);
    assert!(
        load_with(&with("format = \"pagerduty\"\nrouting_key = \"k\"\n"), &[]).is_ok(),
        "PagerDuty's address is known"
    );
    says(&refused("command = \"x\"\nheaders = { X-Key = \"hidden\" }\n"), &["the channel posts to no web address"]);
    says(
        &refused(&format!("{HOOK}headers = {{ Host = \"hidden\" }}\n")),
        &["sets Host, which belongs to the connection"],
    );
    says(&refused(&format!("{HOOK}headers = {{ \"X Key\" = \"hidden\" }}\n")), &["a name that no header can have"]);
    says(
        &refused(&format!("{HOOK}headers = {{ X-Key_file = \"/nonexistent/key\" }}\n")),
        &["`alerts.channel.0.headers.X-Key_file` names"],
    );
}

#[test]
fn nothing_travels_in_the_open_and_no_address_is_repeated() {
    for (channel, said) in [
        (HOOK.replace("https", "http"), "`alerts.channel.0.url` is not HTTPS"),
        (MAIL.replace("smtps://", "https://"), "is not the address of a mail server"),
        (MAIL.replace("hidden-password", "hidden/password"), "alerts.channel.0.smtp_url"),
    ] {
        let message = refused(&channel);
        says(&message, &[said]);
        assert!(!message.contains("hidden"), "{message}");
    }
    assert!(load_with(&with(&MAIL.replace("smtps://", "smtp://")), &[]).is_ok(), "STARTTLS is required there");
}

#[test]
fn names_are_the_channels_own() {
    says(&refused(&format!("name = \"url\"\n{HOOK}")), &["which is the channel that `alerts.url` makes"]);
    let twice = format!("name = \"a\"\n{HOOK}[[alerts.channel]]\nname = \"a\"\n{HOOK}");
    says(&refused(&twice), &["`alerts.channel.1.name` is `a`, as that of `alerts.channel.0` is"]);
    let by_place = format!("{HOOK}[[alerts.channel]]\nname = \"channel.0\"\n{HOOK}");
    says(&refused(&by_place), &["as that of `alerts.channel.0` is"]);
}
