//! A permit to send a claimed lead; it expires with a part of the claim's lease.
//!
//! Between a claim and its request a process may be suspended, or its state may answer late. When the lease expires, another
//! instance takes over the lead. A request that leaves after that would overwrite newer content with older. So the permit is
//! checked again at the last possible moment: when the connection fetches the body to write it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::clock;

/// Allows one request to be written until a moment, which counts from the start of the machine, so that clock changes and
/// suspension do not move it.
#[derive(Debug, Clone)]
pub struct SendPermit {
    until: Duration,
    body: Arc<AtomicU8>,
}

/// The connection has not fetched the body yet.
const WAITING: u8 = 0;
/// The connection has it.
const FETCHED: u8 = 1;
/// The connection asked too late.
const REFUSED: u8 = 2;

impl SendPermit {
    /// `until` on the clock of [`clock::since_boot`].
    pub fn until(until: Duration) -> Self {
        Self { until, body: Arc::new(AtomicU8::new(WAITING)) }
    }

    pub fn is_over(&self) -> bool {
        clock::since_boot() > self.until
    }

    /// A body that the connection gets only while the permit lasts.
    pub fn guard(&self, body: String) -> reqwest::Body {
        reqwest::Body::wrap(PermittedBody { bytes: Some(Bytes::from(body)), permit: self.clone() })
    }

    /// Whether the request certainly did not leave, because the permit had expired.
    pub fn has_kept_back(&self) -> bool {
        match self.body.load(Ordering::Acquire) {
            REFUSED => true,
            WAITING => self.is_over(),
            _ => false,
        }
    }
}

struct PermittedBody {
    bytes: Option<Bytes>,
    permit: SendPermit,
}

/// Aborts the request on its connection.
#[derive(Debug)]
struct PermitOver;

impl fmt::Display for PermitOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the claim was too old when its request was to be written")
    }
}

impl std::error::Error for PermitOver {}

impl Body for PermittedBody {
    type Data = Bytes;
    type Error = PermitOver;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PermitOver>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        if self.permit.is_over() {
            self.permit.body.store(REFUSED, Ordering::Release);
            return Poll::Ready(Some(Err(PermitOver)));
        }
        self.permit.body.store(FETCHED, Ordering::Release);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fetch(permit: &SendPermit) -> Result<Bytes, String> {
        let mut body = PermittedBody { bytes: Some(Bytes::from_static(b"{}")), permit: permit.clone() };
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let frame = frame.expect("one frame").map_err(|error| error.to_string())?;
        Ok(frame.into_data().expect("data"))
    }

    #[tokio::test]
    async fn a_body_is_handed_out_while_the_permit_lasts_and_not_after_it() {
        let lasting = SendPermit::until(clock::since_boot() + Duration::from_secs(60));
        assert_eq!(fetch(&lasting).await.unwrap(), "{}");
        assert!(!lasting.has_kept_back());

        let over = SendPermit::until(clock::since_boot().saturating_sub(Duration::from_millis(1)));
        assert!(fetch(&over).await.is_err());
        assert!(over.has_kept_back());
    }

    #[test]
    fn a_body_that_was_never_fetched_has_not_left_once_the_permit_is_over() {
        assert!(SendPermit::until(Duration::ZERO).has_kept_back());
        assert!(!SendPermit::until(Duration::MAX).has_kept_back());
    }
}
