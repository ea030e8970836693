//! Progress bars: on a terminal only, on standard error, removed when the work is done.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Interval, interval};

use crate::console::can_redraw;
use crate::send::tally::RunTally;
use crate::store::lead;
use crate::store::state_db::StateDb;

/// A bar and its redraw interval; `None` without a terminal.
pub fn bar() -> Option<(ProgressBar, Interval)> {
    if !can_redraw(&std::io::stderr()) {
        return None;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = "{spinner} {msg} {wide_bar} {pos}/{len} {elapsed}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    Some((bar, interval(Duration::from_millis(200))))
}

/// Leads in the state: the best estimate of the number of rows.
pub async fn known(state: &StateDb) -> u64 {
    let known = lead::counts(state).await.map_or(0, |counts| counts.values().sum());
    u64::try_from(known).unwrap_or(0)
}

/// Shows how many rows are read.
pub fn show_reading(bar: &ProgressBar, tally: &RunTally, known: u64) {
    bar.set_message(format!("{} rows read", tally.rows()));
    bar.set_length(known.max(tally.rows()));
    bar.set_position(tally.rows());
}

/// Shows the same until it is dropped.
pub async fn reading(state: StateDb, tally: Arc<RunTally>) {
    let Some((bar, mut ticks)) = bar() else { return };
    let known = known(&state).await;
    loop {
        ticks.tick().await;
        show_reading(&bar, &tally, known);
    }
}

/// A bar for a decision about `leads` leads. The function is told how many leads each part had.
pub fn deciding(leads: i64) -> impl FnMut(u64) {
    let bar = bar().map(|(bar, _)| bar);
    if let Some(bar) = &bar {
        bar.set_length(u64::try_from(leads).unwrap_or(0));
        bar.set_message("leads decided");
    }
    move |part| {
        let Some(bar) = &bar else { return };
        bar.inc(part);
        if Some(bar.position()) >= bar.length() {
            bar.finish_and_clear();
        }
    }
}
