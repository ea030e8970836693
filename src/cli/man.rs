//! `man`: the manual page, made of the same definitions as `--help`.

use crate::cli::Exit;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<Exit> {
    anyhow::bail!("not made yet")
}
