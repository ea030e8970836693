//! `[alerts]` and its channels: what each form needs, and that nothing travels in the open.

use lettre::message::Mailbox;
use secrecy::ExposeSecret;
use url::Url;

use crate::config::validate::place;
use crate::config::validate::report::ValidationReport;
use crate::config::{AlertSettings, ChannelFormat, ChannelSettings};

/// Headers that belong to the transport itself.
const OF_TRANSPORT: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];
/// The names of the channels that `alerts.url` and `alerts.command` are.
const OF_SECTION: [&str; 2] = ["url", "command"];

pub fn check(alerts: &AlertSettings, report: &mut ValidationReport<'_>) {
    if let Some(url) = &alerts.url {
        place::alerts("alerts.url", url, report);
    }
    report.duration("alerts.timeout", alerts.timeout, "1s", "10m");
    report.duration("alerts.backlog_older_than", alerts.backlog_older_than, "0s", "90d");
    for (place, channel) in alerts.channel.iter().enumerate() {
        let entry = ChannelEntry { section: format!("alerts.channel.{place}"), channel };
        entry.check_name(&alerts.channel[..place], report);
        entry.check_way(report);
        entry.check_form(report);
        entry.check_mail(report);
        entry.check_headers(report);
        if channel.kinds.as_ref().is_some_and(Vec::is_empty) {
            let key = entry.key("kinds");
            report.problem(
                &key,
                format!("`{key}` is an empty list, so the channel would be told of nothing"),
                "Write some kinds, or remove the key for all kinds.",
            );
        }
    }
}

/// An entry of `[[alerts.channel]]`.
struct ChannelEntry<'a> {
    /// Its full name: `alerts.channel.0`.
    section: String,
    channel: &'a ChannelSettings,
}

impl ChannelEntry<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.section)
    }

    fn check_name(&self, before: &[ChannelSettings], report: &mut ValidationReport<'_>) {
        let place = before.len();
        let name = self.channel.name_at(place);
        let key = self.key("name");
        if name.chars().any(char::is_control) {
            report.problem(&key, format!("`{key}` has a control character"), "Write a plain name, like \"sales\".");
        }
        if OF_SECTION.contains(&name.as_str()) {
            report.problem(
                &key,
                format!("`{key}` is `{name}`, which is the channel that `alerts.{name}` makes"),
                "Choose another name.",
            );
        }
        let is_same = |(n, other): &(usize, &ChannelSettings)| other.name_at(*n) == name;
        if let Some((n, _)) = before.iter().enumerate().find(is_same) {
            report.problem(
                &key,
                format!("`{key}` is `{name}`, as that of `alerts.channel.{n}` is"),
                "Give each channel a name of its own.",
            );
        }
    }

    /// Each channel has one way out.
    fn check_way(&self, report: &mut ValidationReport<'_>) {
        let ChannelSettings { url, command, smtp_url, .. } = self.channel;
        let ways = [("url", url.is_some()), ("command", command.is_some()), ("smtp_url", smtp_url.is_some())];
        let set: Vec<&str> = ways.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        let format = self.channel.format();
        let is_spoiled = ways.iter().any(|(name, _)| report.is_spoiled(&self.key(name)));
        match (&set[..], format) {
            _ if is_spoiled => {}
            ([one, other, ..], _) => {
                let key = self.key(other);
                report.problem(
                    &key,
                    format!("both `{}` and `{key}` are set", self.key(one)),
                    "Write one [[alerts.channel]] for each of them.",
                );
            }
            ([], ChannelFormat::Pagerduty) => {}
            ([], ChannelFormat::Email) => report.problem(
                &self.section,
                format!("`{}` is not set, and `{}` is `email`", self.key("smtp_url"), self.key("format")),
                "Add under [[alerts.channel]]: smtp_url = \"smtps://user:password@mail.example.com\", or smtp_url_file.",
            ),
            ([], ChannelFormat::Json | ChannelFormat::Slack | ChannelFormat::Teams) => report.problem(
                &self.section,
                format!("`{}` has neither `url` nor `command`: it cannot send anything", self.section),
                "Add under [[alerts.channel]]: url = \"https://…\", or url_file, or command.",
            ),
            (["smtp_url"], ChannelFormat::Email) => {}
            ([way], ChannelFormat::Email) => report.problem(
                &self.key(way),
                format!("`{}` is set, but `{}` is `email`", self.key(way), self.key("format")),
                "Set `smtp_url` instead, or choose another format.",
            ),
            (["smtp_url"], _) => report.problem(
                &self.key("smtp_url"),
                format!("`{}` is set, but `{}` is `{}`", self.key("smtp_url"), self.key("format"), format.name()),
                "Write format = \"email\", or remove `smtp_url`.",
            ),
            ([_], _) => {}
        }
        if let Some(url) = url {
            place::alerts(&self.key("url"), url, report);
        }
    }

    /// The keys that one form needs, and the others do not have.
    fn check_form(&self, report: &mut ValidationReport<'_>) {
        let ChannelSettings { to, from, routing_key, .. } = self.channel;
        let needs = [
            ("to", to.is_some(), ChannelFormat::Email, "to = [\"ops@example.com\"]"),
            ("from", from.is_some(), ChannelFormat::Email, "from = \"conversica-sync@example.com\""),
            (
                "routing_key",
                routing_key.is_some(),
                ChannelFormat::Pagerduty,
                "routing_key = \"…\", or routing_key_file",
            ),
        ];
        for (name, is_set, of, line) in needs {
            let key = self.key(name);
            match (is_set, of == self.channel.format()) {
                (false, true) if !report.is_spoiled(&key) => report.problem(
                    &self.section,
                    format!("`{key}` is not set, and `{}` is `{}`", self.key("format"), of.name()),
                    format!("Add under [[alerts.channel]]: {line}"),
                ),
                (true, false) => report.problem(
                    &key,
                    format!("`{key}` is set, but `{}` is not `{}`", self.key("format"), of.name()),
                    format!("Write format = \"{}\", or remove the key.", of.name()),
                ),
                (false, true | false) | (true, true) => {}
            }
        }
    }

    fn check_mail(&self, report: &mut ValidationReport<'_>) {
        if let Some(url) = &self.channel.smtp_url {
            check_smtp(&self.key("smtp_url"), url, report);
        }
        let named = self.channel.to.iter().flatten().map(|to| ("to", to));
        for (name, address) in named.chain(self.channel.from.iter().map(|from| ("from", from))) {
            let key = self.key(name);
            if address.parse::<Mailbox>().is_err() {
                report.problem(
                    &key,
                    format!("`{key}` has `{address}`, which is no e-mail address"),
                    "Write it like \"ops@example.com\" or \"Operations <ops@example.com>\".",
                );
            }
        }
        if self.channel.to.as_ref().is_some_and(Vec::is_empty) {
            let key = self.key("to");
            report.problem(&key, format!("`{key}` is an empty list"), "Write to = [\"ops@example.com\"].");
        }
    }

    fn check_headers(&self, report: &mut ValidationReport<'_>) {
        let key = self.key("headers");
        let headers = &self.channel.headers;
        let is_posted = self.channel.url.is_some() || self.channel.format() == ChannelFormat::Pagerduty;
        if !headers.is_empty() && !is_posted {
            report.problem(
                &key,
                format!("`{key}` is set, but the channel posts to no web address"),
                "Set `url`, or remove `headers`.",
            );
        }
        if let Some(name) = headers.keys().find(|name| OF_TRANSPORT.contains(&name.to_ascii_lowercase().as_str())) {
            report.problem(
                &key,
                format!("`{key}` sets {name}, which belongs to the connection"),
                "Remove it: it is set as each request needs it.",
            );
        }
        if headers.values().any(|value| value.expose_secret().is_empty()) {
            report.problem(&key, format!("`{key}` has an empty value"), "Write a value, or remove the header.");
        }
    }
}

/// No part of the address is shown: it may be a secret as a whole.
fn check_smtp(key: &str, url: &Url, report: &mut ValidationReport<'_>) {
    let is_known = matches!(url.scheme(), "smtps" | "smtp");
    if !is_known || url.host_str().is_none_or(str::is_empty) {
        return report.problem(
            key,
            format!("`{key}` is not the address of a mail server"),
            "Write it like \"smtps://user:password@mail.example.com\" (TLS from the start, port 465) or \"smtp://…\" (STARTTLS, \
             port 587).",
        );
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        report.problem(
            key,
            format!("`{key}` has a path or parameters, which a mail server does not take"),
            "Write a password with special characters percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40.",
        );
    }
}
