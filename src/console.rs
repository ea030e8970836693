//! Standard output for people and scripts.

use std::fmt::Display;
use std::io::Write;

/// Writes a line. Whoever reads may stop reading (`… | head`): that is not a failure, and no reason to panic as `println!`
/// does.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
