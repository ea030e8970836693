//! The one place where tests wait: for a condition, with a deadline and a message. A test never sleeps; it names the
//! condition that it waits for.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// Panics with `what` when `condition` is still false after `deadline`.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// As [`wait_until`]; returns the value.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        pause();
    }
}

/// As [`wait_until`], for a condition that has to await something, such as a query.
pub async fn wait_until_async(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    wait_for_async(what, deadline, async || condition().await.then_some(())).await;
}

/// As [`wait_for`], for an attempt that has to await something. An attempt that hangs counts against the deadline too.
pub async fn wait_for_async<T>(what: &str, deadline: Duration, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(deadline, polling).await {
        Ok(value) => value,
        Err(_) => panic!("waited {deadline:?} in vain: {what}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one pause that all waiting is made of")]
fn pause() {
    std::thread::sleep(PAUSE);
}
