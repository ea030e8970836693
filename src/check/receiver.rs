//! `check` of the receiver: its certificate, its address, its password. It tries the address without accepting connections.

use std::io;
use std::net::TcpListener;

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::check::item::CheckItem;
use crate::config::{ReceiveSettings, ServiceSettings};
use crate::receive;

const SECTION: &str = "receiver";
/// Every client that can reach the receiver may guess passwords.
const SHORT_PASSWORD: usize = 12;
/// Authorities renew a month before the end; a certificate with fewer days left was probably forgotten.
const FEW_DAYS: i64 = 21;

/// Whether another process sends from the state, and so probably listens as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaemonPresence {
    Runs,
    Absent,
}

pub(super) fn of_receiver(settings: &ServiceSettings, now: DateTime<Utc>, daemon: DaemonPresence) -> Vec<CheckItem> {
    let Some(receive) = &settings.receive else {
        return vec![CheckItem::ok(SECTION, "listen", "no [receive]: nothing that Conversica sends back is taken")];
    };
    let mut items = Vec::new();
    let by = match (receive::prepare(settings), receive.behind_proxy) {
        (Ok(Some(_)), _) => {
            items.extend(of_dates(receive, now));
            "with TLS; certificate and key match"
        }
        (Ok(None), true) => "without TLS, behind a proxy",
        (Ok(None), false) => "without TLS, on this machine only",
        (Err(error), _) => {
            items.extend(CheckItem::failed(SECTION, "certificate", &error.into()));
            "once the certificate is fixed"
        }
    };
    items.insert(0, of_address(receive, by, daemon));
    if receive.password.expose_secret().chars().count() < SHORT_PASSWORD {
        let text = format!(
            "the password of [receive] has fewer than {SHORT_PASSWORD} characters, and anybody who can reach the receiver may \
             guess"
        );
        items.push(
            CheckItem::warn(SECTION, "password", text).cure("take a long one made by chance: openssl rand -base64 24"),
        );
    }
    items
}

fn of_address(receive: &ReceiveSettings, by: &str, daemon: DaemonPresence) -> CheckItem {
    let address = receive.listen;
    match TcpListener::bind(address) {
        Ok(_) => CheckItem::ok(SECTION, "listen", format!("{address} can be listened on, {by}")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && daemon == DaemonPresence::Runs => {
            CheckItem::ok(SECTION, "listen", format!("{address} is listened on, by the daemon that runs now; {by}"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let text = format!("{address} is in use: by `conversica-sync run`, or by another program; {by}");
            CheckItem::warn(SECTION, "listen", text)
                .cure("nothing, if the daemon is running; otherwise set [receive] listen")
        }
        Err(error) => CheckItem::fail(SECTION, "listen", format!("{address} cannot be listened on: {error}"))
            .cure("set [receive] listen to an address of this machine, and to a port that this user may take"),
    }
}

/// The validity period of the server's own certificate.
fn of_dates(receive: &ReceiveSettings, now: DateTime<Utc>) -> Option<CheckItem> {
    let chain = std::fs::read(receive.tls_certificate.as_ref()?).ok()?;
    let own = CertificateDer::pem_slice_iter(&chain).next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&own).ok()?;
    let validity = certificate.validity();
    let from = DateTime::from_timestamp(validity.not_before.timestamp(), 0)?;
    let until = DateTime::from_timestamp(validity.not_after.timestamp(), 0)?;
    Some(dates(from, until, now))
}

fn dates(from: DateTime<Utc>, until: DateTime<Utc>, now: DateTime<Utc>) -> CheckItem {
    const NAME: &str = "dates";
    const RENEW: &str =
        "have it renewed, and write the new one over the old files: the daemon takes it without a restart";
    let (day, days) = (until.format("%F"), (until - now).num_days());
    if now < from {
        let from = from.format("%F %T UTC");
        CheckItem::fail(
            SECTION,
            NAME,
            format!("the certificate is valid from {from} on, and it is {} now", now.format("%F %T UTC")),
        )
        .cure("look at this machine's clock, or wait")
    } else if until < now {
        CheckItem::fail(
            SECTION,
            NAME,
            format!("the certificate has been invalid since {day}: Conversica's posts are lost"),
        )
        .cure(RENEW)
    } else if days < FEW_DAYS {
        CheckItem::warn(SECTION, NAME, format!("the certificate is valid until {day}: {days} day(s) are left"))
            .cure(RENEW)
    } else {
        CheckItem::ok(SECTION, NAME, format!("the certificate is valid until {day}: {days} days are left"))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::check::item::ItemState;

    #[test]
    fn a_certificate_is_good_for_three_weeks_more_or_worth_a_word() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let state = |from: i64, until: i64| {
            let at = |days| now + TimeDelta::days(days);
            dates(at(from), at(until), now).state
        };
        assert_eq!(state(-1, 21), ItemState::Ok);
        assert_eq!(state(-1, 20), ItemState::Warn);
        assert_eq!(state(-1, 0), ItemState::Warn);
        assert_eq!(state(-9, -1), ItemState::Fail);
        assert_eq!(state(1, 90), ItemState::Fail);
    }
}
