//! The channels of `[alerts]`: each has a name, the kinds that it is told of, a form and one way out. `alerts.url` and `alerts.command` are
//! channels too, of all kinds, in JSON.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tracing::error;
use url::Url;

use crate::alert::body;
use crate::alert::command;
use crate::alert::failure::ChannelFailure;
use crate::alert::mail::AlertMail;
use crate::alert::notice::AlertNotice;
use crate::alert::post::AlertPost;
use crate::clock;
use crate::config::{AlertSettings, ChannelFormat, ChannelSettings};
use crate::store::alert::TakenAlert;

/// The result of a channel that has succeeded.
pub const TOLD: &str = "told";

/// PagerDuty's Events API v2.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// After this number of failures in a row, one alert at a time tries the channel: a channel that hangs must not delay the others.
const FAILURES: u32 = 3;

/// The way out of a channel.
#[derive(Debug)]
enum ChannelWay {
    Post(AlertPost),
    Command(String),
    Mail(AlertMail),
    /// It cannot be used, for a reason on this machine.
    Broken(ChannelFailure),
}

/// A place where people are told.
#[derive(Debug)]
pub struct AlertChannel {
    pub name: String,
    pub format: ChannelFormat,
    /// What the channel uses: `url`, `command` or `smtp_url`.
    pub way_name: &'static str,
    /// `None`: all.
    kinds: Option<Vec<&'static str>>,
    way: ChannelWay,
    routing_key: Option<SecretString>,
    timeout: Duration,
    /// Failures in a row.
    failures: AtomicU32,
    /// Held by the alert that tries a channel which has failed.
    probe: Mutex<()>,
}

impl AlertChannel {
    fn of_section(name: &'static str, way: ChannelWay, timeout: Duration) -> Self {
        Self {
            name: name.to_owned(),
            format: ChannelFormat::Json,
            way_name: name,
            kinds: None,
            way,
            routing_key: None,
            timeout,
            failures: AtomicU32::new(0),
            probe: Mutex::default(),
        }
    }

    fn of_entry(place: usize, settings: &ChannelSettings, timeout: Duration) -> Self {
        let format = settings.format();
        let default_url = || Url::parse(PAGERDUTY).ok().filter(|_| format == ChannelFormat::Pagerduty);
        let (way_name, way) = match (&settings.command, &settings.smtp_url) {
            (Some(command), _) => ("command", ChannelWay::Command(command.clone())),
            (None, Some(smtp)) => {
                let from = settings.from.as_deref().unwrap_or_default();
                let to = settings.to.as_deref().unwrap_or_default();
                let mail = AlertMail::new(smtp, from, to, timeout);
                ("smtp_url", mail.map_or_else(ChannelWay::Broken, ChannelWay::Mail))
            }
            (None, None) => match settings.url.clone().or_else(default_url) {
                Some(url) => ("url", post(&url, &settings.headers, timeout)),
                None => ("url", ChannelWay::Broken(ChannelFailure::no_connection())),
            },
        };
        Self {
            name: settings.name_at(place),
            format,
            way_name,
            kinds: settings.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| kind.name()).collect()),
            way,
            routing_key: settings.routing_key.clone(),
            timeout,
            failures: AtomicU32::new(0),
            probe: Mutex::default(),
        }
    }

    fn is_told_of(&self, kind: &str) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// One try. `identity` tells this installation from others.
    ///
    /// # Errors
    /// Why the document did not get through, in words without data.
    pub async fn send(&self, document: &str, identity: &str) -> Result<(), ChannelFailure> {
        let routing_key = self.routing_key.as_ref().map_or("", |key| key.expose_secret());
        let body = || body::body(self.format, document, identity, routing_key);
        match &self.way {
            ChannelWay::Post(post) => post.send(body()).await,
            ChannelWay::Command(command) => command::run(command, &body(), self.timeout).await,
            ChannelWay::Mail(mail) => match AlertNotice::read(document) {
                Some(notice) => mail.send(&notice, identity, SystemTime::from(clock::now())).await,
                None => Err(ChannelFailure::new(
                    "the alert cannot be read",
                    "look at the CHANGELOG, and report this as a bug",
                )),
            },
            ChannelWay::Broken(failure) => Err(failure.clone()),
        }
    }

    /// A try of one of several alerts at the same time.
    async fn send_guarded(&self, document: &str, identity: &str) -> Result<(), ChannelFailure> {
        let _probe = if self.failures.load(Ordering::Relaxed) >= FAILURES {
            Some(self.probe.try_lock().map_err(|_| ChannelFailure::untried())?)
        } else {
            None
        };
        let sent = self.send(document, identity).await;
        match sent {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(_) => _ = self.failures.fetch_add(1, Ordering::Relaxed),
        }
        sent
    }
}

fn post(url: &Url, headers: &BTreeMap<String, SecretString>, timeout: Duration) -> ChannelWay {
    AlertPost::new(url, headers, timeout).map_or_else(ChannelWay::Broken, ChannelWay::Post)
}

/// All channels.
#[derive(Debug)]
pub struct AlertChannels {
    pub channels: Vec<AlertChannel>,
    /// Tells this installation from others that use the same account of a service.
    pub identity: String,
    pub timeout: Duration,
}

impl AlertChannels {
    pub fn new(settings: &AlertSettings, identity: String) -> Self {
        let timeout = settings.timeout;
        let url = settings.url.as_ref();
        let url = url.map(|url| AlertChannel::of_section("url", post(url, &BTreeMap::new(), timeout), timeout));
        let command = settings.command.clone();
        let command = command.map(|line| AlertChannel::of_section("command", ChannelWay::Command(line), timeout));
        let entries = settings.channel.iter().enumerate();
        let entries = entries.map(|(place, entry)| AlertChannel::of_entry(place, entry, timeout));
        Self { channels: url.into_iter().chain(command).chain(entries).collect(), identity, timeout }
    }

    /// Logs the channels that cannot be used on this machine.
    pub fn report_broken(&self) {
        for channel in &self.channels {
            if let ChannelWay::Broken(ChannelFailure { what, cure }) = &channel.way {
                error!(channel = channel.name, error = what, cure, "no alert can be sent by this channel");
            }
        }
    }

    /// Tries each channel that is told of this kind and has not succeeded yet for this alert; returns the result of each.
    pub async fn tell(&self, alert: &TakenAlert) -> BTreeMap<String, String> {
        let before: BTreeMap<String, String> =
            alert.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default();
        let tries = self.channels.iter().filter(|channel| channel.is_told_of(&alert.kind)).map(async |channel| {
            if before.get(&channel.name).is_some_and(|result| result == TOLD) {
                return (channel.name.clone(), TOLD.to_owned());
            }
            let sent = channel.send_guarded(&alert.body, &self.identity).await;
            (channel.name.clone(), sent.err().map_or_else(|| TOLD.to_owned(), |failure| failure.what))
        });
        join_all(tries).await.into_iter().collect()
    }
}
