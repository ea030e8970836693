//! Reads the repository's own files and refuses what the project has agreed not to have. A rule is a line here, with its
//! reason; an exception is an entry in a list, with its reason too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 500;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "types", "manager", "misc"];

/// Text that is not to be left behind, in pieces, so that this file does not find itself.
const LEFTOVERS: [&str; 6] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("#[", "ignore"),
];

/// Where the present moment may be read; everywhere else it is an argument, so that a test can choose it.
const MAY_READ_THE_CLOCK: [(&str, &str); 13] = [
    ("src/clock.rs", "the clock itself"),
    ("src/cli/", "a command is the program's edge"),
    ("src/admin/", "a request for a page begins at some moment"),
    ("src/alert/", "each turn of the loop that sends alerts begins at some moment"),
    ("src/daemon", "each turn of a loop begins at some moment"),
    ("src/upkeep.rs", "each round of the loop that deletes old entries begins at some moment"),
    ("src/receive/intake.rs", "stamps what arrives from outside"),
    ("src/receive/apply.rs", "each turn of the loop that applies posts begins at some moment"),
    ("src/receive/writeback/mod.rs", "each turn of the loop that writes to the CRM begins at some moment"),
    ("src/send/pass.rs", "one pass of `once`: begins at some moment, and waits in between"),
    ("src/send/deliver", "stamps each outcome when its answer arrives, long after the pass began"),
    ("src/sandbox/", "plays Conversica, which has its own clock"),
    ("src/demo/", "sets the stage for a demonstration"),
];
/// Reads of the clock below the edges, one by one.
const READS_THE_CLOCK_ITSELF: [(&str, &str); 2] = [
    (
        "src/store/server_clock.rs",
        "reads the clock of the state's server, and this machine's where the server's makes no sense",
    ),
    ("src/store/state_log.rs", "compares the stamp of a file with the clock that made it, at the moment of looking"),
];
/// How the clock is read.
const CLOCK_CALLS: [&str; 5] = ["clock::now", "clock::own", "Utc::now", "Local::now", "SystemTime::now"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut unread = vec![root().join(directory)];
    while let Some(directory) = unread.pop() {
        let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                unread.push(path);
            } else if path.extension().is_some_and(|have| have == extension) {
                found.push(path.strip_prefix(root()).expect("it lies below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files() -> Vec<(String, String)> {
    let paths = ["src", "tests"].into_iter().flat_map(|directory| files_below(directory, "rs"));
    paths.map(|path| (path.display().to_string(), text(&path))).collect()
}

/// The lines with their numbers, up to the tests at the file's foot.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // A single test-only item in the middle of a file hides nothing behind it.
    let foot = text.find("#[cfg(test)]\nmod ").map_or(usize::MAX, |at| text[..at].lines().count());
    text.lines().enumerate().map(|(index, line)| (index + 1, line)).take_while(move |(number, _)| *number <= foot)
}

fn no_findings(rule: &str, findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent = rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    no_findings("the first line is a `//!` line", silent.map(|(path, _)| path));
}

#[test]
fn no_file_has_grown_beyond_reading() {
    let long = rust_files().into_iter().filter(|(_, text)| text.lines().count() > MAX_LINES);
    no_findings(
        &format!("a file has at most {MAX_LINES} lines"),
        long.map(|(path, text)| format!("{path}: {}", text.lines().count())),
    );
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let mut findings = Vec::new();
    for (path, text) in rust_files() {
        for (index, line) in text.lines().enumerate() {
            findings.extend(
                LEFTOVERS
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{}: {word}", index + 1)),
            );
        }
    }
    no_findings("no unfinished work, no debugging, no ignored test", findings);
}

#[test]
fn the_product_never_unwraps() {
    let mut findings = Vec::new();
    // `tests.rs` is the foot of a file whose tests have outgrown it.
    let product = |path: &str| path.starts_with("src/") && !path.ends_with("/tests.rs");
    for (path, text) in rust_files().iter().filter(|(path, _)| product(path)) {
        let unwraps = product_lines(text).filter(|(_, line)| line.contains(".unwrap()"));
        findings.extend(unwraps.map(|(number, _)| format!("{path}:{number}")));
    }
    no_findings("`expect` with the invariant, or an error, instead of `unwrap`", findings);
}

#[test]
fn nobody_changes_the_environment() {
    let call = concat!("set", "_var(");
    let calls = rust_files().into_iter().filter(|(_, text)| text.contains(call));
    no_findings("variables are handed in, never set", calls.map(|(path, _)| path));
}

#[test]
fn the_clock_is_read_at_the_edges_only() {
    let mut findings = Vec::new();
    let mut idle: BTreeSet<&str> =
        MAY_READ_THE_CLOCK.iter().chain(&READS_THE_CLOCK_ITSELF).map(|(place, _)| *place).collect();
    for (path, text) in rust_files().iter().filter(|(path, _)| path.starts_with("src/")) {
        let reads: Vec<String> = product_lines(text)
            .filter(|(_, line)| {
                !line.trim_start().starts_with("//") && CLOCK_CALLS.iter().any(|call| line.contains(call))
            })
            .map(|(number, _)| format!("{path}:{number}"))
            .collect();
        let excused =
            MAY_READ_THE_CLOCK.iter().chain(&READS_THE_CLOCK_ITSELF).find(|(place, _)| path.starts_with(place));
        match excused {
            Some((place, _)) if !reads.is_empty() => {
                idle.remove(place);
            }
            Some(_) => {}
            None => findings.extend(reads),
        }
    }
    no_findings("`now` is an argument; MAY_READ_THE_CLOCK lists the edges", findings);
    no_findings("each exception is needed", idle.into_iter().map(str::to_owned));
}

/// `use crate::clock::now` would hide a read of the clock from the test above.
#[test]
fn the_clock_is_called_by_its_whole_name() {
    let is_import = |line: &str| {
        let names = line.strip_prefix("use crate::clock::").unwrap_or_default();
        names.split(|character: char| !character.is_alphanumeric()).any(|name| ["now", "own"].contains(&name))
    };
    let imports = rust_files().into_iter().filter(|(_, text)| text.lines().any(is_import));
    no_findings("`clock::now()` is written out", imports.map(|(path, _)| path));
}

/// What a file that calls itself pure does not touch: a runtime, a database, HTTP, files, processes, the clock.
const IMPURE: [&str; 12] = [
    "tokio::",
    "sqlx::",
    "rusqlite::",
    "reqwest::",
    "hyper::",
    "std::fs",
    "std::process",
    "std::env",
    "Instant::now(",
    "clock::now(",
    "SourceDb",
    "StateDb",
];

#[test]
fn a_file_that_calls_itself_pure_touches_nothing_outside() {
    let mut findings = Vec::new();
    let mut pure_files = 0;
    for (path, text) in rust_files().iter().filter(|(path, _)| path.starts_with("src/")) {
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let head = head.join(" ");
        if !head.contains("Pure.") && !head.contains("Pure:") {
            continue;
        }
        pure_files += 1;
        let code = product_lines(text).filter(|(_, line)| !line.trim_start().starts_with("//"));
        let touched = code.filter(|(_, line)| IMPURE.iter().any(|call| line.contains(call)));
        findings.extend(touched.map(|(number, line)| format!("{path}:{number}: {}", line.trim())));
    }
    assert!(pure_files > 40, "the heads of the files say which are pure: {pure_files}");
    no_findings("a pure file touches nothing outside", findings);
}

/// The name of the type that a line declares, if it declares one.
fn declared_type(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line =
        ["pub ", "pub(crate) ", "pub(super) "].iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(line);
    let name = ["struct ", "enum ", "trait ", "type "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    name.split(|character: char| !character.is_alphanumeric()).next().filter(|name| !name.is_empty())
}

/// `Args` is what clap's users expect in each file of a command. Types inside an `impl` (`Value`, `Error`) are named by the trait.
#[test]
fn a_type_says_what_it_is_and_no_two_share_a_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in rust_files().iter().filter(|(path, _)| path.starts_with("src/")) {
        for line in text.lines().filter(|line| !line.starts_with(' ')) {
            if let Some(name) = declared_type(line).filter(|name| *name != "Args") {
                places.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
    }
    assert!(places.len() > 400, "the types are found: {}", places.len());
    let shared = places.iter().filter(|(_, paths)| paths.len() > 1);
    no_findings("each type has a name of its own", shared.map(|(name, paths)| format!("{name}: {}", paths.join(", "))));
    let one_word = |name: &str| !name.chars().skip(1).any(char::is_uppercase);
    let words = places.iter().filter(|(name, _)| one_word(name));
    let words: Vec<String> = words.map(|(name, paths)| format!("{name}: {}", paths.join(", "))).collect();
    no_findings("a type's name has two words or more", words);
}

#[test]
fn every_module_is_named_after_something() {
    let empty = rust_files().into_iter().map(|(path, _)| path).filter(|path| {
        Path::new(path)
            .with_extension("")
            .components()
            .any(|part| EMPTY_NAMES.iter().any(|name| part.as_os_str() == *name))
    });
    no_findings("a module is named after what it holds", empty);
}

#[test]
fn migrations_are_twins() {
    let names = |engine: &str| -> BTreeSet<String> {
        let files = files_below(&format!("migrations/{engine}"), "sql");
        files.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    };
    let (sqlite, postgres) = (names("sqlite"), names("postgres"));
    assert!(!sqlite.is_empty(), "migrations/sqlite holds the tables of the state");
    assert_eq!(sqlite, postgres, "both engines have migrations of the same numbers and names");
    for (index, name) in sqlite.iter().enumerate() {
        let number = format!("{:04}_", index + 1);
        assert!(name.starts_with(&number), "{name}: the numbers run 0001, 0002, …; here {number} was expected");
    }
}

#[test]
fn the_book_names_every_command() {
    let page = text(Path::new("docs/commands.md"));
    let directory = tempfile::tempdir().expect("a directory");
    let help = crate::support::binary::Cli::new(directory.path()).run(&["--help"]).expect_code(0).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 5, "the help lists the commands:\n{help}");
    let missing = commands.iter().filter(|command| {
        let names = [format!("conversica-sync {command}"), format!("`{command}`"), format!("`{command} ")];
        !names.iter().any(|name| page.contains(name.as_str()))
    });
    no_findings("docs/commands.md names each command", missing.map(|command| (*command).to_owned()));
}

#[test]
fn every_promise_has_tests_and_every_test_that_is_named_exists() {
    let page = text(Path::new("CONTRIBUTING.md"));
    let (_, tables) = page.split_once("## Promises and their tests").expect("promises");
    let (table, _) = tables.split_once("\n## ").expect("a section behind it");
    let mut kept: Vec<(u8, &str)> = Vec::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, number, title, tests, _] = cells[..]
            && let Ok(number) = number.parse()
        {
            assert!(tests.contains("::"), "promise {number} has no tests");
            kept.push((number, title));
        }
    }
    let given = text(Path::new("docs/promises.md"));
    let given: Vec<(u8, &str)> = given
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.split_once(". **")?;
            Some((number.parse().ok()?, rest.split("**").next()?.trim_end_matches('.')))
        })
        .collect();
    assert!(given.len() > 20, "{given:?}");
    assert_eq!(
        kept, given,
        "CONTRIBUTING.md has the promises of docs/promises.md, in the same order, each with its tests"
    );

    let named = tables.split('`').filter(|word| word.contains("::"));
    let missing = named.filter(|name| {
        let (file, test) = name.split_once("::").expect("a file and a test");
        let text = std::fs::read_to_string(root().join(format!("tests/it/{file}.rs"))).unwrap_or_default();
        let test = test.trim_end_matches('…').trim_end_matches("::");
        let is_there =
            test.is_empty() || text.contains(&format!("fn {test}(")) || text.contains(&format!("mod {test} "));
        text.is_empty() || !is_there
    });
    no_findings("CONTRIBUTING.md names tests that exist", missing.map(str::to_owned));
}

/// Columns of table `lead` that a statement of its own may set. They are no part of what an event does to a lead.
const PLAIN_COLUMNS: [(&str, &str); 5] = [
    ("row_hash", "says whether the next poll maps the row again"),
    ("lease_until", "shortened where a clock that ran ahead has written it"),
    ("due_at", "limited where a clock that ran ahead has written it"),
    ("introduced_at", "limited where a clock that ran ahead has written it"),
    ("{column}", "held_at and gone_at, limited where a clock that ran ahead has written them"),
];

/// What an event does to a lead is said once, in src/rules/lead_life.rs. The state chooses leads and keeps them.
#[test]
fn no_statement_decides_about_a_lead() {
    let statuses = ["pending", "in_flight", "retrying", "held", "invalid", "rejected", "exhausted", "in_sync", "gone"];
    for path in files_below("src", "rs") {
        let text = std::fs::read_to_string(&path).expect("readable");
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\ ", "");
        let place = path.display();
        for (start, _) in flat.match_indices("update lead set ") {
            let rest = &flat[start + "update lead set ".len()..];
            let may = PLAIN_COLUMNS.iter().any(|(column, _)| rest.starts_with(&format!("{column} = ")));
            assert!(
                may || place.to_string().ends_with("store/lead_record.rs"),
                "{place}: {}",
                &rest[..60.min(rest.len())]
            );
        }
        for status in statuses {
            let decides = format!("then '{status}'");
            let is_answer = place.to_string().ends_with("store/possible_opt_out.rs"); // a decision about a post
            assert!(is_answer || !flat.contains(&decides), "{place}: a case in SQL makes a lead {status}");
        }
        if flat.contains("insert into lead (") {
            assert!(place.to_string().ends_with("store/lead_record.rs"), "{place} inserts leads itself");
        }
    }
}

/// Macros of our own, each with what a function or a generic type cannot do in its place.
const MACROS: [(&str, &str); 4] = [
    ("on_source", "one expression for pools of three types"),
    ("column", "takes the name of a field"),
    ("argument_from", "the same conversion for several types"),
    ("lead_keys", "one list makes an enum and its tables"),
];

#[test]
fn a_macro_holds_no_code_that_a_function_can_hold() {
    let mut findings = Vec::new();
    for (path, text) in rust_files().iter().filter(|(path, _)| path.starts_with("src/")) {
        for (index, line) in text.lines().enumerate() {
            let Some(name) = line.trim_start().strip_prefix("macro_rules! ") else { continue };
            let may = MACROS.iter().any(|(known, _)| name.trim_end_matches(" {") == *known);
            // One that is indented is defined within a function, and holds what was its body.
            if !may || line.starts_with(' ') {
                findings.push(format!("{path}:{}: {name}", index + 1));
            }
        }
    }
    no_findings("a macro stands in MACROS with its reason", findings);
}

/// The condition of the index over unfinished leads has a name.
#[test]
fn the_condition_of_the_index_is_written_once() {
    let may = ["src/store/lead_status.rs", "src/store/due.rs", "src/store/compare.rs"];
    let condition = concat!("status <> ", "'in_sync'");
    let sources =
        rust_files().into_iter().filter(|(path, _)| path.starts_with("src/") && !may.contains(&path.as_str()));
    let others = sources.filter(|(_, text)| text.contains(condition));
    no_findings("lead_status::UNSETTLED instead", others.map(|(path, _)| path));
}

/// Functions that take a yes or no all the same.
const TAKES_A_BOOL: [(&str, &str, &str); 16] = [
    ("src/sandbox/check.rs", "visit_bool", "named by serde"),
    ("src/admin/metrics.rs", "flag", "a metric that is 0 or 1"),
    ("src/admin/dashboard/lead.rs", "of", "may_act: the page shows buttons where it is set, as its template reads it"),
    ("src/admin/dashboard/overview.rs", "of", "may_act, likewise"),
    ("src/admin/dashboard/visitor.rs", "unknown_operator", "is_api: read off the path of the request"),
    ("src/wording.rs", "resumed", "the answer of the state, said in words"),
    ("src/rules/lead_life/attempt.rs", "status_after", "facts of one attempt, computed by the only caller"),
    ("src/sandbox/store.rs", "admit", "the result of one comparison of credentials"),
    ("src/send/plan.rs", "planned", "whether consent is withdrawn, computed by the only caller"),
    ("src/store/erase.rs", "reach", "whether the state has posts of the lead, as read by the only caller"),
    ("src/rules/line.rs", "new", "whether [source] client is set"),
    ("src/store/event.rs", "of", "whether [source] client is set"),
    ("src/store/heard/replay.rs", "replay", "whether [source] client is set"),
    ("src/store/ahead.rs", "correct_waits", "whether the Test Lead Token is set"),
    ("src/store/contact_key.rs", "parse", "whether an entry may be a domain, which is read from a list"),
    ("src/story/hearing.rs", "of", "[consent] keep_opt_outs"),
];

/// `split(name, true)` says nothing where it is called: an enum of two, two functions, or what the yes or no is read from.
#[test]
fn no_function_takes_a_bool() {
    let mut findings = Vec::new();
    let mut idle: BTreeSet<(String, String)> =
        TAKES_A_BOOL.iter().map(|(path, name, _)| ((*path).to_owned(), (*name).to_owned())).collect();
    let product = |path: &str| path.starts_with("src/") && !path.ends_with("/tests.rs");
    for (path, text) in rust_files().iter().filter(|(path, _)| product(path)) {
        let code: Vec<&str> = product_lines(text).map(|(_, line)| line).collect();
        for (name, parameters) in signatures(&code.join("\n")) {
            let takes = parameters
                .split(',')
                .filter_map(|one| one.rsplit_once(": "))
                .any(|(_, kind)| ["bool", "&bool", "Option<bool>"].contains(&kind.trim()));
            if takes && !idle.remove(&(path.clone(), name.clone())) {
                findings.push(format!("{path}: {name}({parameters})"));
            }
        }
    }
    no_findings("a parameter says what it means; TAKES_A_BOOL lists the exceptions", findings);
    no_findings("each exception is needed", idle.into_iter().map(|(path, name)| format!("{path}: {name}")));
}

/// The names of functions with the texts of their parameters.
fn signatures(code: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let begins = code[..start].chars().next_back().is_none_or(char::is_whitespace);
        let rest = &code[start + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(open) = rest.find('(').filter(|_| begins && !name.is_empty()) else { continue };
        let mut depth = 0;
        let end = rest[open..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            (depth == 0).then_some(open + at)
        });
        let parameters = rest[open + 1..end.unwrap_or(rest.len())].split_whitespace().collect::<Vec<_>>().join(" ");
        found.push((name, parameters));
    }
    found
}
