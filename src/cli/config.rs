//! `config show` and `config schema`.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::cli::help;
use crate::config::environment::ProcessEnvironment;
use crate::config::{find_file, load, schema, show};

#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Show every setting in force, secrets hidden, with the layer it came from
    #[command(after_help = help::CONFIG_SHOW)]
    Show {
        /// One JSON document instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file, for editors
    #[command(after_help = help::CONFIG_SCHEMA)]
    Schema,
}

/// Prints to standard output; warnings go to standard error.
pub fn run(command: ConfigCommand, file: Option<&Path>) -> anyhow::Result<()> {
    let text = match command {
        ConfigCommand::Schema => format!("{:#}\n", schema::json_schema()),
        ConfigCommand::Show { json } => {
            let environment = ProcessEnvironment::of_process();
            let loaded = load(&find_file(file, &environment)?, &environment)?;
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            if json { format!("{:#}\n", show::json(&loaded.effective)) } else { show::text(&loaded.effective) }
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
