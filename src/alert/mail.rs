//! Sends an alert as an e-mail, over TLS unless the mail server is this machine. Neither the server's address nor the message is ever part
//! of an error.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use sha2::{Digest, Sha256};
use url::Url;

use crate::alert::body;
use crate::alert::failure::ChannelFailure;
use crate::alert::notice::{AlertNotice, NoticePhase};

const CANNOT_BE_SENT: &str = "see that `from` and `to` are e-mail addresses";

/// How the connection to the mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MailSecurity {
    FromTheStart,
    /// Required: a server without it gets nothing.
    StartTls,
    /// On this machine only: such a server rarely has a certificate for its name, and no other machine is on the way to it.
    Unencrypted,
}

impl MailSecurity {
    fn of(url: &Url) -> Self {
        // In URLs of these schemes, addresses are used as they are written.
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_here = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        match url.scheme() {
            "smtps" => Self::FromTheStart,
            _ if is_here => Self::Unencrypted,
            _ => Self::StartTls,
        }
    }
}

#[derive(Debug, Clone)]
pub struct AlertMail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
}

impl AlertMail {
    /// # Errors
    /// When TLS cannot be prepared, or an address is none.
    pub fn new(url: &Url, from: &str, to: &[String], timeout: Duration) -> Result<Self, ChannelFailure> {
        let host = url.host_str().ok_or_else(ChannelFailure::no_connection)?;
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let parameters = || TlsParameters::new(name.clone()).map_err(|_| ChannelFailure::of_tls());
        let (tls, usual_port) = match MailSecurity::of(url) {
            MailSecurity::FromTheStart => (Tls::Wrapper(parameters()?), 465),
            MailSecurity::StartTls => (Tls::Required(parameters()?), 587),
            MailSecurity::Unencrypted => (Tls::None, 25),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(name.clone())
            .port(url.port().unwrap_or(usual_port))
            .tls(tls)
            .timeout(Some(timeout));
        if !url.username().is_empty() {
            let password = url.password().unwrap_or_default();
            builder = builder.credentials(Credentials::new(decoded(url.username()), decoded(password)));
        }
        let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|_| unfit());
        let to = to.iter().map(|address| mailbox(address)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { transport: builder.build(), from: mailbox(from)?, to, timeout })
    }

    /// # Errors
    /// What the mail server has answered, in words without data.
    pub async fn send(&self, notice: &AlertNotice, identity: &str, sent_at: SystemTime) -> Result<(), ChannelFailure> {
        let message = self.message(notice, identity, sent_at)?;
        match tokio::time::timeout(self.timeout, self.transport.send(message)).await {
            Err(_) => Err(ChannelFailure::no_answer()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(match error.status() {
                Some(code) => ChannelFailure::of_smtp(code.into()),
                None if error.is_timeout() => ChannelFailure::no_answer(),
                None if error.is_tls() || is_of_handshake(&error) => ChannelFailure::of_tls(),
                None if error.is_client() => ChannelFailure::of_mail_server(),
                None => ChannelFailure::no_connection(),
            }),
        }
    }

    fn message(&self, notice: &AlertNotice, identity: &str, sent_at: SystemTime) -> Result<Message, ChannelFailure> {
        let message_id = |phase: &str| {
            let digest = Sha256::digest(format!("{}\n{phase}", body::dedup_key(notice, identity)));
            format!(
                "<{:032x}@conversica-sync>",
                digest.iter().take(16).fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte))
            )
        };
        let begun = message_id("thread");
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(format!("[conversica-sync] {}", notice.title))
            .date(sent_at)
            .header(ContentType::TEXT_PLAIN);
        // Mail programs show the end below the beginning.
        builder = match notice.phase {
            NoticePhase::Begun => builder.references(begun),
            NoticePhase::Ended => builder.in_reply_to(begun.clone()).references(begun),
        };
        let occasion = format!("{:?}/{}", notice.phase, notice.at);
        builder = builder.message_id(Some(message_id(&occasion)));
        let builder = self.to.iter().fold(builder, |builder, to| builder.to(to.clone()));
        let mut message = builder.body(body::mail_text(notice)).map_err(|_| unfit())?;
        // So that no notice of absence answers.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(message)
    }
}

/// A handshake that failed while connecting counts as a failed connection there.
fn is_of_handshake(error: &dyn Error) -> bool {
    std::iter::successors(error.source(), |cause| (*cause).source()).any(|cause| {
        let of_transport = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.is::<rustls::Error>() || of_transport.is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

fn unfit() -> ChannelFailure {
    ChannelFailure::new("the message cannot be made", CANNOT_BE_SENT)
}

/// User and password are percent-encoded in a URL.
fn decoded(text: &str) -> String {
    // As in a form, but `+` and `&` mean themselves.
    let pair = format!("text={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, text)| text.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_on_this_machine_is_spoken_to_without_tls() {
        let of = |url: &str| MailSecurity::of(&Url::parse(url).unwrap());
        for url in ["smtp://127.0.0.1", "smtp://localhost:2525", "smtp://[::1]", "smtp://u:p@127.9.9.9"] {
            assert_eq!(of(url), MailSecurity::Unencrypted, "{url}");
        }
        for url in [
            "smtp://mail.example.com",
            "smtp://u@192.0.2.1:25",
            "smtp://localhost.example.com",
            "smtp://127.0.0.1.example",
        ] {
            assert_eq!(of(url), MailSecurity::StartTls, "{url}");
        }
        for url in ["smtps://mail.example.com", "smtps://127.0.0.1"] {
            assert_eq!(of(url), MailSecurity::FromTheStart, "{url}");
        }
    }

    #[test]
    fn passwords_are_read_as_urls_write_them() {
        assert_eq!(decoded("a%40b%2Fc%25"), "a@b/c%");
        assert_eq!(decoded("a+b&c=d"), "a+b&c=d");
    }
}
