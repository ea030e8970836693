//! SIGINT and SIGTERM: the first one asks to end cleanly, the second one ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first signal cancels.
pub fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for signals in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if signals > 0 {
                // Requests in flight stay claimed; the next start records them as ambiguous.
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing requests in flight; a second signal stops at once");
            token.cancel();
        }
    });
    Ok(stop)
}
