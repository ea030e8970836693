//! Waits for a server's answer, as long as a reading may wait.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// The answer; `None` if it does not come within that time. It may still come: the caller decides what to do with it.
pub(super) async fn answered_within<T>(mut answer: Pin<&mut impl Future<Output = T>>, patience: Duration) -> Option<T> {
    // Most rows are available at once: only the others need a timer.
    let mut timer = None;
    poll_fn(|context| {
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}
