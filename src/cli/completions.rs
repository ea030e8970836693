//! `completions`: what a shell needs to complete this program's arguments.

use crate::cli::Exit;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<Exit> {
    anyhow::bail!("not made yet")
}
