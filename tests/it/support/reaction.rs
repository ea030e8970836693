//! The reactions of an endpoint to a request, from a plain answer to the faults that only a raw connection can show.

use std::time::Duration;

use tokio::sync::watch;

#[derive(Clone, Debug)]
pub enum Reaction {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
        after: Duration,
    },
    /// Answers when the test opens the gate.
    AnswerWhenOpened(Gate, Box<Reaction>),
    /// Takes the request and never answers, until the client gives up.
    AcceptThenHang,
    /// Takes the request and closes the connection in an orderly way, without an answer.
    AcceptThenCut,
    /// Resets the connection without reading the request. The ledger knows it, the endpoint does not.
    CutBeforeReading,
    /// An answer with an endless body.
    HugeBody {
        status: u16,
        bytes: u64,
    },
    /// Sends these bytes as they are and closes the connection; `status` is the status that a client reads from them.
    Raw {
        status: Option<u16>,
        bytes: &'static [u8],
    },
    /// The status line at once, then a header that grows by one byte each `every`, for ever.
    SlowHeaders {
        every: Duration,
    },
}

impl Reaction {
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: "{}".to_owned(), after: Duration::ZERO }
    }

    pub fn accept() -> Self {
        Self::status(200)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match &mut self {
            Self::Answer { headers, .. } => headers.push((name.to_owned(), value.to_owned())),
            other => panic!("{other:?} has no headers to add to"),
        }
        self
    }

    #[must_use]
    pub fn body(mut self, text: &str) -> Self {
        match &mut self {
            Self::Answer { body, .. } => text.clone_into(body),
            other => panic!("{other:?} has no body to set"),
        }
        self
    }

    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        match &mut self {
            Self::Answer { after, .. } => *after = delay,
            other => panic!("{other:?} cannot be delayed"),
        }
        self
    }

    #[must_use]
    pub fn when_opened(self, gate: &Gate) -> Self {
        Self::AnswerWhenOpened(gate.clone(), Box::new(self))
    }
}

/// Closed at first; opened by the test, once and for all requests that wait at it.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn opened(&self) {
        let mut state = self.0.subscribe();
        state.wait_for(|open| *open).await.expect("the gate itself keeps the channel open");
    }
}
