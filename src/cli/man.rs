//! `man`: the manual page, made from the same definitions as `--help`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::context::ExitCode;
use crate::console::{self, say};
use crate::error::SetupError;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one page for each command into this directory, which is made where it is missing
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

pub fn run(args: Args, program: Command) -> anyhow::Result<ExitCode> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    match args.directory {
        None => console::put(&page(program)?),
        Some(directory) => {
            let written = fs::create_dir_all(&directory).and_then(|()| write_pages(program, &directory));
            let pages = written.map_err(|error| {
                SetupError::new(
                    format!("the pages cannot be written to {}: {error}", directory.display()),
                    "name a directory that this user may write to",
                )
            })?;
            say(format_args!("{pages} pages in {}", directory.display()));
        }
    }
    Ok(ExitCode::Done)
}

/// Returns how many pages it wrote.
fn write_pages(command: Command, directory: &Path) -> io::Result<usize> {
    let mut pages = 1;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages += write_pages(inner.clone(), directory)?;
    }
    let file = directory.join(Man::new(command.clone()).get_filename());
    fs::write(file, page(command)?)?;
    Ok(pages)
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let after = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let version = command.get_version().unwrap_or(env!("CARGO_PKG_VERSION")).to_owned();
    // Section by section: the crate itself would join the lines of the examples, under EXTRA.
    let man = Man::new(command.clone()).source(format!("conversica-sync {version}")).manual("conversica-sync");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    after_help(after.as_deref().unwrap_or_default()).to_writer(&mut page)?;
    Ok(page)
}

/// The text below the options: each example with its explanation, other paragraphs as text.
fn after_help(text: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in text.split("\n\n") {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            roff.control("SH", ["EXAMPLES"]);
            // Explanation below the command: a page is narrower than a terminal may be.
            for line in examples.lines() {
                let (command, why) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
                roff.control("TP", []);
                roff.text([bold(command)]);
                roff.text([roman(why.trim())]);
            }
        } else if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            roff.control("SH", ["EXIT STATUS"]);
            roff.text([roman(codes.replace('\n', " "))]);
        } else if !paragraph.trim().is_empty() {
            roff.control("PP", []);
            roff.text([roman(paragraph.replace('\n', " "))]);
        }
    }
    roff
}
