//! Runs the program with a clock that is ahead or behind, by Debian's package `faketime`. The program's own process loads the
//! library, so that signals reach it.

use std::path::PathBuf;

use super::binary::Cli;

const INSTALL: &str = "apt-get install --no-install-recommends faketime";

/// The program, with a clock that is off by `offset`, as in `+50s` or `-700d`.
pub fn with_clock(cli: Cli, offset: &str) -> Cli {
    let library = library().to_string_lossy().into_owned();
    cli.env("LD_PRELOAD", &library).env("FAKETIME", offset)
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("a Linux machine has /usr/lib");
    let candidates = folders.flatten().map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    candidates.into_iter().find(|library| library.exists()).unwrap_or_else(|| panic!("to install: {INSTALL}"))
}
