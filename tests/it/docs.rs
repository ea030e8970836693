//! The README and the book in `docs/`: every link leads somewhere, every page is in the table of contents, the README
//! stays short, and pages for users name no tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The README answers "what is it, is it for me, how do I begin"; everything else is in the book.
const README_LINES: usize = 250;

/// Pages outside of the book whose links the test checks as well.
const OTHER_PAGES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of the book, without its table of contents.
fn book_pages() -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(root().join("docs")).expect("the book is in docs/");
    let names = entries.map(|entry| PathBuf::from(entry.expect("a readable entry").file_name()));
    let is_page = |name: &PathBuf| name.extension().is_some_and(|extension| extension == "md");
    names
        .filter(|name| is_page(name) && name != Path::new("SUMMARY.md"))
        .map(|name| Path::new("docs").join(name))
        .collect()
}

fn all_pages() -> Vec<PathBuf> {
    let others = OTHER_PAGES.iter().map(PathBuf::from);
    others.chain([PathBuf::from("docs/SUMMARY.md")]).chain(book_pages()).collect()
}

/// The lines outside of code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        if !is_fence && !in_code {
            lines.push(line);
        }
        in_code ^= is_fence;
    }
    assert!(!in_code, "a code block does not end");
    lines
}

/// The text without its code spans.
fn without_code_spans(line: &str) -> String {
    let (mut kept, mut rest) = (String::new(), line);
    while let Some(start) = rest.find('`') {
        kept.push_str(&rest[..start]);
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let behind = &rest[start + ticks..];
        match behind.find(&"`".repeat(ticks)) {
            Some(end) => rest = &behind[end + ticks..],
            None => rest = behind,
        }
    }
    kept + rest
}

/// The anchor that GitHub gives to a heading.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of all headings of a page; a repeated heading gets a number.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in prose(text) {
        let depth = line.chars().take_while(|c| *c == '#').count();
        if (1..=6).contains(&depth) && line[depth..].starts_with(' ') {
            let name = slug(&line[depth..]);
            let times = seen.entry(name.clone()).or_default();
            found.insert(if *times == 0 { name } else { format!("{name}-{times}") });
            *times += 1;
        }
    }
    found
}

/// The targets of all links and pictures of a page that lead to a file or a heading.
fn local_links(text: &str) -> Vec<String> {
    // A link may continue on the next line.
    let prose: String = prose(text).into_iter().map(|line| without_code_spans(line) + "\n").collect();
    let targets = prose.match_indices("](").filter_map(|(at, _)| prose[at + 2..].split(')').next().map(str::to_owned));
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// The path without `.` and `..`; `None` where it leads out of the repository.
fn plain_path(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let (mut links, mut wrong) = (0, Vec::new());
    for page in all_pages() {
        let is_in_book = page.starts_with("docs");
        for link in local_links(&text(&page)) {
            links += 1;
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let directory = page.parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() { Some(page.clone()) } else { plain_path(&directory.join(file)) };
            let target = target.filter(|target| root().join(target).exists());
            let Some(target) = target else {
                wrong.push(format!("{}: {link}: there is no such file", page.display()));
                continue;
            };
            // The book is built from docs/ alone.
            if is_in_book && !target.starts_with("docs") {
                wrong.push(format!("{}: {link}: leads out of the book", page.display()));
            }
            if anchor.is_some_and(|anchor| !anchors(&text(&target)).contains(anchor)) {
                wrong.push(format!("{}: {link}: there is no such heading", page.display()));
            }
        }
    }
    assert!(links > 60, "the links are read: {links}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn headings_are_named_as_github_names_them() {
    for (heading, name) in [
        ("What `check` looks at", "what-check-looks-at"),
        ("A person's record", "a-persons-record"),
        ("Completions, manual, colours", "completions-manual-colours"),
        ("`[delivery.retry]`", "deliveryretry"),
        ("one_word and-another", "one_word-and-another"),
    ] {
        assert_eq!(slug(heading), name);
    }
    let twice = anchors("# One\n## Two\n## Two\n```\n# no heading\n```\n");
    assert_eq!(twice.into_iter().collect::<Vec<_>>(), ["one", "two", "two-1"]);
}

#[test]
fn the_readme_is_short() {
    let lines = text(Path::new("README.md")).lines().count();
    assert!(
        lines <= README_LINES,
        "README.md has {lines} lines; {README_LINES} is the limit, the rest belongs into docs/"
    );
}

#[test]
fn the_table_of_contents_lists_every_page_once() {
    let mut listed = local_links(&text(Path::new("docs/SUMMARY.md")));
    listed.sort();
    let pages: Vec<String> =
        book_pages().iter().map(|page| page.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    assert!(pages.len() > 10, "{pages:?}");
    assert_eq!(listed, pages);
}

#[test]
fn the_book_is_built_from_the_pages_themselves_and_can_be_searched() {
    let book: toml::Table = text(Path::new("docs/book.toml")).parse().expect("TOML");
    assert_eq!(book["book"]["src"].as_str(), Some("."));
    assert_eq!(book["output"]["html"]["search"]["enable"].as_bool(), Some(true));
}

#[test]
fn pages_for_users_name_no_tests() {
    let tests: BTreeSet<String> = std::fs::read_dir(root().join("tests/it"))
        .expect("the tests")
        .map(|entry| entry.expect("a readable entry").path())
        .filter_map(|path| path.file_stem().map(|name| format!("{}::", name.to_string_lossy())))
        .collect();
    let pages = book_pages().into_iter().chain([PathBuf::from("README.md")]);
    let named: Vec<String> = pages
        .flat_map(|page| {
            let text = text(&page);
            let found: Vec<String> = tests.iter().filter(|test| text.contains(test.as_str())).cloned().collect();
            found.into_iter().map(move |test| format!("{}: {test}", page.display()))
        })
        .collect();
    assert!(named.is_empty(), "which test holds what is in CONTRIBUTING.md:\n{}", named.join("\n"));
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest: toml::Table = text(Path::new("Cargo.toml")).parse().expect("TOML");
    let page = text(Path::new("ARCHITECTURE.md"));
    let (_, table) = page.split_once("## Why these crates").expect("the table of crates");
    let explained: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|crates| crates.split(", "))
        .collect();
    let used = manifest["dependencies"].as_table().expect("a section").keys();
    let missing: Vec<&String> = used.filter(|name| !explained.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md under \"Why these crates\": {missing:?}");
}
