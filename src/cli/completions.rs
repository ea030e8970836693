//! `completions`: what a shell needs to complete this program's arguments, made of the same definitions as `--help`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Exit, NAME};
use crate::console;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete for
    pub shell: Shell,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    // Into memory first: the crate panics where the reader of the output goes away.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    console::put(&script);
    Ok(Exit::Done)
}
