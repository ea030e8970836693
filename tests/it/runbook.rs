//! The runbook: docs/runbook.md has the cause and the fix of every warning, under the words of the log.

use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The text literals between the brackets of a macro call; `code` begins after the opening bracket.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut depth, mut rest) = (Vec::new(), 1, code.chars());
    while depth > 0 {
        match rest.next().expect("the call ends") {
            '(' => depth += 1,
            ')' => depth -= 1,
            '"' => {
                let mut text = String::new();
                loop {
                    match rest.next().expect("the text ends") {
                        '"' => break,
                        '\\' => match rest.next().expect("something is escaped") {
                            // The literal continues on the next line, whose indent is not part of the text.
                            '\n' => rest = rest.as_str().trim_start().chars(),
                            c => text.push(c),
                        },
                        c => text.push(c),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// The page of the book.
fn runbook() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    std::fs::read_to_string(page).expect("a runbook")
}

/// The value of a constant text in the sources, as `warn!("{NAME}")` prints it.
fn constant(sources: &str, name: &str) -> Option<String> {
    let (_, behind) = sources.split_once(&format!("const {name}: &str ="))?;
    let (statement, _) = behind.split_once("\";")?;
    // Read like the only argument of a call.
    literals(&format!("{statement}\")")).into_iter().next()
}

/// A literal as the log shows it; for the bare name of a constant, that constant's text.
fn printed(literal: String, sources: &str) -> String {
    let name = literal.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    name.and_then(|name| constant(sources, name)).unwrap_or(literal)
}

/// The longest part of a text between its placeholders, without the fix at its end.
fn longest_part(text: &str) -> &str {
    let what = text.split("; cure:").next().unwrap_or_default();
    let parts = what.split(['{', '}', '`', '(', ')']).map(str::trim);
    parts.max_by_key(|part| part.len()).unwrap_or_default()
}

#[test]
fn every_alert_is_in_the_runbook() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/alerts.yml");
    let rules = std::fs::read_to_string(rules).expect("the rules");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let runbook = runbook();
    let missing: Vec<&&str> = alerts.iter().filter(|alert| !runbook.contains(&format!("`{alert}`"))).collect();
    assert!(missing.is_empty(), "not in docs/runbook.md: {missing:?}");
}

#[test]
fn every_warning_and_error_of_the_log_is_in_the_runbook() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runbook = runbook();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let (mut messages, mut missing) = (0, Vec::new());
    let read = |file: PathBuf| {
        let code = std::fs::read_to_string(&file).expect("a source file");
        (file, code.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
    };
    let files: Vec<(PathBuf, String)> = files.into_iter().map(read).collect();
    let all: String = files.iter().map(|(_, code)| code.as_str()).collect();
    for (file, code) in &files {
        for call in ["warn!(", "error!("] {
            for (at, _) in code.match_indices(call) {
                let literals: Vec<String> =
                    literals(&code[at + call.len()..]).into_iter().map(|text| printed(text, &all)).collect();
                // Messages made of parts, such as warnings about a key of the settings, contain their own fix.
                let words: Vec<&String> =
                    literals.iter().filter(|text| text.len() > 20 && !text.contains('{')).collect();
                messages += usize::from(!words.is_empty());
                if !words.is_empty() && !words.iter().any(|text| runbook.contains(text.as_str())) {
                    missing.push(format!("{}: {words:?}", file.strip_prefix(root).unwrap_or(file).display()));
                }
            }
        }
    }
    // Warnings about the settings files, which the program logs one by one.
    for (at, call) in ["warnings.push(", "warnings.extend("].iter().flat_map(|call| all.match_indices(call)) {
        for text in literals(&all[at + call.len()..]) {
            let part = longest_part(&text);
            if part.len() > 20 && !runbook.contains(part) {
                missing.push(format!("a warning about the settings: {part:?}"));
            }
        }
    }
    // Messages that the code passes to the listener, which logs them.
    let mut listeners = 0;
    for (file, code) in &files {
        for (at, _) in code.match_indices("http::listen(") {
            let name = code[at..].split(',').nth(1).expect("a message behind the address").trim();
            let message = constant(code, name).unwrap_or_else(|| panic!("{}: {name}", file.display()));
            listeners += 1;
            if !runbook.contains(&message) {
                missing.push(format!("{}: {message:?}", file.strip_prefix(root).unwrap_or(file).display()));
            }
        }
    }
    assert_eq!(listeners, 2, "the admin server and the receiver listen");
    assert!(messages > 25, "the sources are read: {messages}");
    assert!(missing.is_empty(), "not in docs/runbook.md:\n{}", missing.join("\n"));
}
