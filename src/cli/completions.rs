//! `completions`: the shell's completion script, made from the same definitions as `--help`.

use clap::Command;
use clap_complete::Shell;

use crate::cli::context::{ExitCode, NAME};
use crate::console;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete for
    pub shell: Shell,
}

pub fn run(args: Args, mut program: Command) -> anyhow::Result<ExitCode> {
    // Into memory first: the crate panics when the reader of the output closes it.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, NAME, &mut script);
    if args.shell == Shell::Bash {
        script = fixed(&String::from_utf8_lossy(&script)).into_bytes();
    }
    console::put(&script);
    Ok(ExitCode::Done)
}

/// Nothing would be completed behind a command: where a program has a hyphen in its name, the crate (4.6.11) spells the labels
/// of its states in two ways (github.com/clap-rs/clap/issues/6421). Changes nothing once the crate is fixed.
fn fixed(script: &str) -> String {
    script.replace(&NAME.replace('-', "__subcmd__"), &NAME.replace('-', "__"))
}
