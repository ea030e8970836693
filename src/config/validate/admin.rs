//! `[admin]`: who may sign in, and whether their tokens can be guessed.

use secrecy::{ExposeSecret, SecretString};

use crate::config::AdminSettings;
use crate::config::address_range::AddressRange;
use crate::config::validate::report::ValidationReport;

/// Where other machines can guess. 20 random letters and digits are more than 100 bits.
const SHORTEST_ADMIN_TOKEN: usize = 20;

pub fn check(admin: &AdminSettings, report: &mut ValidationReport<'_>) {
    let is_open = !admin.listen.ip().is_loopback();
    if is_open && admin.token.is_none() && admin.operator.is_empty() {
        report.problem(
            "admin.token",
            format!("`admin.token` is not set, but `admin.listen` is {}, open to other machines", admin.listen),
            "Set `token_file` under [admin], or listen on 127.0.0.1.",
        );
    }
    let tokens: Vec<(String, &SecretString)> = admin
        .token
        .iter()
        .map(|token| ("admin.token".to_owned(), token))
        .chain(
            admin
                .operator
                .iter()
                .enumerate()
                .filter_map(|(n, one)| Some((format!("admin.operator.{n}.token"), one.token.as_ref()?))),
        )
        .collect();
    for (n, (key, token)) in tokens.iter().enumerate() {
        if is_open && token.expose_secret().chars().count() < SHORTEST_ADMIN_TOKEN {
            report.problem(
                key,
                format!(
                    "`{key}` has fewer than {SHORTEST_ADMIN_TOKEN} characters, and `admin.listen` is {}, open to other machines",
                    admin.listen
                ),
                "Make a long one: `openssl rand -hex 32 > admin_token`, named by `token_file`.",
            );
        }
        let is_same = |(_, other): &&(String, &SecretString)| other.expose_secret() == token.expose_secret();
        if let Some((other, _)) = tokens[..n].iter().find(is_same)
            && !report.is_spoiled(other)
        {
            report.problem(
                key,
                format!("`{key}` is the same as `{other}`"),
                "Give each person a token of their own: it says who decides.",
            );
        }
    }
    check_sso(admin, report);
    for (n, one) in admin.operator.iter().enumerate() {
        let token = format!("admin.operator.{n}.token");
        if one.token.is_none() && admin.sso_header.is_none() && !report.is_spoiled(&token) {
            report.problem(
                &format!("admin.operator.{n}"),
                format!("`{token}` is not set"),
                "Add under [[admin.operator]]: token = \"another long random text\", or the secret's own file: token_file = \
                 \"/run/secrets/…\"; with `sso_header` under [admin] none is needed.",
            );
        }
        let key = format!("admin.operator.{n}.name");
        if one.name.chars().any(char::is_control) {
            report.problem(&key, format!("`{key}` has a control character"), "Write a plain name, like \"anna\".");
        }
        if let Some(m) = admin.operator[..n].iter().position(|other| other.name.eq_ignore_ascii_case(&one.name)) {
            report.problem(
                &key,
                format!("`{key}` is `{}`, as `admin.operator.{m}.name` is", one.name),
                "Give each operator a name of their own.",
            );
        }
    }
}

/// Headers that browsers, clients and servers set themselves.
const OF_CLIENTS: [&str; 8] =
    ["authorization", "connection", "cookie", "host", "origin", "referer", "user-agent", "x-forwarded-for"];

/// A sender that may set the header can be any operator, so the setting says from where it counts.
fn check_sso(admin: &AdminSettings, report: &mut ValidationReport<'_>) {
    let from = admin.sso_from.as_deref();
    if let Some(header) = &admin.sso_header {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if !header.chars().all(is_token) || OF_CLIENTS.contains(&header.to_ascii_lowercase().as_str()) {
            report.problem(
                "admin.sso_header",
                format!("`admin.sso_header` is `{header}`, which cannot name an operator"),
                "Write the header that the proxy sets, like \"X-Forwarded-User\".",
            );
        }
        if from.is_none() {
            report.problem(
                "admin.sso_header",
                "`admin.sso_header` is set, but `admin.sso_from` is not: anybody could set the header",
                "Add under [admin]: sso_from = [\"127.0.0.1\"], with the address of the proxy.",
            );
        }
        if admin.operator.is_empty() {
            report.problem(
                "admin.sso_header",
                "`admin.sso_header` is set, but there is no operator that it could name",
                "Write [[admin.operator]] with `name` and `role` for each person.",
            );
        }
    } else if from.is_some() {
        report.problem(
            "admin.sso_from",
            "`admin.sso_from` is set, but `admin.sso_header` is not",
            "Add under [admin]: sso_header = \"X-Forwarded-User\", as the proxy calls it, or remove `sso_from`.",
        );
    }
    if from.is_some_and(<[String]>::is_empty) {
        report.problem(
            "admin.sso_from",
            "`admin.sso_from` is an empty list, so the header would count from nowhere",
            "Write the address of the proxy, or remove `sso_from` and `sso_header`.",
        );
    }
    for text in from.into_iter().flatten() {
        if let Err(error) = text.parse::<AddressRange>() {
            report.problem(
                "admin.sso_from",
                format!("`admin.sso_from` has `{text}`, which {error}"),
                "Write the address of the proxy, like \"127.0.0.1\", or a range that only proxies are in, like \"10.1.2.0/24\".",
            );
        }
    }
}
