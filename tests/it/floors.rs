//! The floor plan of the sources: which module may import which. The test reads the source files, and the picture in
//! `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the ground up. A module imports from floors below its own, or in one direction within its floor.
const FLOORS: [&[&str]; 7] = [
    &["clock", "console", "conversica", "error", "histogram", "horizon", "http", "nearest"],
    &["config", "telemetry"],
    &["rules"],
    &["client", "db", "sandbox", "source", "store"],
    &[
        "alert",
        "chart",
        "check",
        "decide",
        "pulse",
        "receive",
        "reconcile",
        "send",
        "status",
        "story",
        "upkeep",
        "wording",
    ],
    &["admin", "daemon", "demo", "setup"],
    &["cli"],
];

/// Modules of pure decisions and plain data.
const PURE_MODULES: [&str; 2] = ["rules", "conversica"];
/// What pure modules must not import: runtimes, databases, HTTP, logging.
const IMPURE_CRATES: [&str; 9] =
    ["tokio", "tokio_util", "sqlx", "reqwest", "axum", "hyper", "hyper_util", "tracing", "futures_util"];

/// A module by its path: `["store", "held"]`.
type ModulePath = Vec<String>;
/// Each module with the modules that it imports from.
type ImportGraph = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

/// The code of each module, without comments and tests.
struct SourceTree {
    code: BTreeMap<ModulePath, String>,
}

impl SourceTree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut code = BTreeMap::new();
        let mut unread = vec![root.clone()];
        while let Some(directory) = unread.pop() {
            for entry in std::fs::read_dir(&directory).expect("a readable directory") {
                let path = entry.expect("a readable entry").path();
                if path.is_dir() {
                    unread.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let module = module_path(path.strip_prefix(&root).expect("it lies below src"));
                    if module.last().is_none_or(|name| name != "tests" && name != "main") {
                        code.insert(module, product_code(&std::fs::read_to_string(&path).expect("a readable file")));
                    }
                }
            }
        }
        Self { code }
    }

    /// The module that a path leads into: the longest beginning that is a module.
    fn owner_of(&self, path: &[String]) -> Option<ModulePath> {
        (0..=path.len()).rev().map(|length| path[..length].to_vec()).find(|beginning| self.code.contains_key(beginning))
    }

    fn import_graph(&self) -> ImportGraph {
        let re_exports = self.re_exports();
        let mut graph = ImportGraph::new();
        for (module, code) in self.code.iter().filter(|(module, _)| !module.is_empty()) {
            let imports = graph.entry(module.clone()).or_default();
            for path in self.paths_named_in(module, code) {
                let path = follow_re_exports(path, &re_exports);
                imports.extend(self.owner_of(&path).filter(|owner| !owner.is_empty() && owner != module));
            }
        }
        graph
    }

    /// Names that a module passes on from another one: `pub use self::child::Name`.
    fn re_exports(&self) -> BTreeMap<ModulePath, ModulePath> {
        let mut found = BTreeMap::new();
        for (module, code) in &self.code {
            for (is_public, tree) in use_statements(code) {
                for path in expand_use_tree(&tree).into_iter().filter(|_| is_public) {
                    let name = path.last().cloned().unwrap_or_default();
                    if let Some(target) = self.absolute_path(module, &path) {
                        found.insert([module.clone(), vec![name]].concat(), target);
                    }
                }
            }
        }
        found
    }

    fn paths_named_in(&self, module: &ModulePath, code: &str) -> Vec<ModulePath> {
        let from_use = use_statements(code).into_iter().flat_map(|(_, tree)| expand_use_tree(&tree));
        let from_code = paths_in_code(code);
        from_use.chain(from_code).filter_map(|path| self.absolute_path(module, &path)).collect()
    }

    /// `None` for a path into another crate, and for a name that is no module.
    fn absolute_path(&self, module: &ModulePath, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let child = [module.clone(), vec![first.clone()]].concat();
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => self.absolute_path(module, rest).or_else(|| Some([module.clone(), rest.to_vec()].concat())),
            "super" => {
                let parent = module[..module.len().checked_sub(1)?].to_vec();
                match rest.first().map(String::as_str) {
                    Some("super") => self.absolute_path(&parent, rest),
                    _ => Some([parent, rest.to_vec()].concat()),
                }
            }
            _ if self.code.contains_key(&child) => Some([child, rest.to_vec()].concat()),
            _ => None,
        }
    }
}

fn module_path(file: &Path) -> ModulePath {
    let file =
        if file.ends_with("mod.rs") { file.parent().unwrap_or(Path::new("")).to_owned() } else { file.to_owned() };
    let file = if file == Path::new("lib.rs") { PathBuf::new() } else { file.with_extension("") };
    file.iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

/// Without comments and without the tests at its foot.
fn product_code(text: &str) -> String {
    let text = text.replace("#[cfg(test)]\nmod tests;", "");
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Each `use` statement: whether it passes names on, and its tree in one line.
fn use_statements(code: &str) -> Vec<(bool, String)> {
    let mut statements = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        let private = line.strip_prefix("use ");
        let public =
            ["pub use ", "pub(crate) use ", "pub(super) use "].iter().find_map(|start| line.strip_prefix(start));
        let Some(start) = private.or(public) else { continue };
        let mut tree = start.to_owned();
        while !tree.contains(';') {
            let Some(next) = lines.next() else { break };
            tree.push_str(next.trim());
        }
        statements.push((public.is_some(), tree.split(';').next().unwrap_or_default().to_owned()));
    }
    statements
}

/// Expands `a::{b, c::d as e}` to `a::b` and `a::c::d`.
fn expand_use_tree(tree: &str) -> Vec<ModulePath> {
    let tree = tree.split(" as ").next().filter(|_| !tree.contains('{')).unwrap_or(tree).trim();
    let Some(open) = tree.find('{') else {
        let segments = tree.split("::").map(|segment| segment.trim().to_owned());
        return vec![segments.filter(|segment| segment != "*" && !segment.is_empty()).collect()];
    };
    let head: ModulePath =
        tree[..open].split("::").filter(|part| !part.is_empty()).map(|part| part.trim().to_owned()).collect();
    let body = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in body.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&body[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(expand_use_tree);
    parts.map(|path| [head.clone(), path.into_iter().filter(|part| part != "self").collect()].concat()).collect()
}

/// Paths of at least two parts in the code itself.
fn paths_in_code(code: &str) -> Vec<ModulePath> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == ':';
    // A word that ends in colons is the head of a tree; `use_statements` covers it.
    let words =
        code.split(|character: char| !is_part(character)).filter(|word| word.contains("::") && !word.ends_with(':'));
    let paths = words.map(|word| word.trim_start_matches(':').split("::").map(str::to_owned).collect::<ModulePath>());
    paths.filter(|path| path.len() > 1).collect()
}

fn follow_re_exports(mut path: ModulePath, re_exports: &BTreeMap<ModulePath, ModulePath>) -> ModulePath {
    // A name is re-exported through a few modules at most.
    for _ in 0..5 {
        let Some((length, target)) =
            (1..=path.len()).find_map(|length| Some((length, re_exports.get(&path[..length])?)))
        else {
            break;
        };
        path = [target.clone(), path[length..].to_vec()].concat();
    }
    path
}

fn floor_of(module: &[String]) -> usize {
    let name = module[0].as_str();
    FLOORS.iter().position(|floor| floor.contains(&name)).unwrap_or_else(|| panic!("{name} stands on no floor"))
}

/// The modules that are part of a cycle, with their imports in it.
fn circles(graph: &ImportGraph) -> Vec<String> {
    let reach: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
        graph.keys().map(|module| (module, reachable_from(module, graph))).collect();
    let mut findings = Vec::new();
    for (module, imports) in graph.iter().filter(|(module, _)| reach[module].contains(module)) {
        let back = imports.iter().filter(|import| reach.get(import).is_some_and(|reached| reached.contains(module)));
        let names = back.map(|import| import.join("::")).collect::<Vec<_>>().join(", ");
        findings.push(format!("{} imports {names}", module.join("::")));
    }
    findings
}

fn reachable_from<'g>(module: &ModulePath, graph: &'g ImportGraph) -> BTreeSet<&'g ModulePath> {
    let mut reached = BTreeSet::new();
    let mut unread: Vec<&ModulePath> = graph.get(module).into_iter().flatten().collect();
    while let Some(next) = unread.pop() {
        if reached.insert(next) {
            unread.extend(graph.get(next).into_iter().flatten());
        }
    }
    reached
}

fn no_findings(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn every_module_stands_on_one_floor() {
    let tree = SourceTree::read();
    let modules: BTreeSet<&str> = tree.code.keys().filter_map(|module| Some(module.first()?.as_str())).collect();
    let on_floors: Vec<&str> = FLOORS.iter().flat_map(|floor| floor.iter().copied()).collect();
    assert_eq!(on_floors.iter().copied().collect::<BTreeSet<_>>(), modules);
    assert_eq!(on_floors.len(), modules.len(), "no module stands on two floors");
}

#[test]
fn no_import_goes_up() {
    let mut findings = Vec::new();
    let graph = SourceTree::read().import_graph();
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 500, "imports are found");
    for (module, imports) in &graph {
        let up = imports.iter().filter(|import| floor_of(import) > floor_of(module));
        findings.extend(up.map(|import| format!("{} imports {}", module.join("::"), import.join("::"))));
    }
    no_findings("a module imports from its own floor and from those below", findings);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    no_findings("imports go one way", circles(&SourceTree::read().import_graph()));
}

#[test]
fn no_folders_import_each_other_in_a_circle() {
    let mut folders = ImportGraph::new();
    for (module, imports) in SourceTree::read().import_graph() {
        let others = imports.into_iter().filter(|import| import[0] != module[0]).map(|import| vec![import[0].clone()]);
        folders.entry(vec![module[0].clone()]).or_default().extend(others.collect::<Vec<_>>());
    }
    no_findings("imports go one way", circles(&folders));
}

#[test]
fn rules_and_plain_data_import_no_runtime_database_or_http_crate() {
    let tree = SourceTree::read();
    let mut findings = Vec::new();
    for (module, code) in
        tree.code.iter().filter(|(module, _)| module.first().is_some_and(|name| PURE_MODULES.contains(&name.as_str())))
    {
        let used =
            use_statements(code).into_iter().flat_map(|(_, tree)| expand_use_tree(&tree)).chain(paths_in_code(code));
        let impure = used.filter(|path| path.first().is_some_and(|name| IMPURE_CRATES.contains(&name.as_str())));
        findings.extend(impure.map(|path| format!("{} uses {}", module.join("::"), path.join("::"))));
    }
    no_findings("pure modules decide and hold data, and do nothing else", findings);
}

#[test]
fn the_library_draws_the_same_floors() {
    let library =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs");
    let drawn = library.lines().filter_map(|line| line.strip_prefix("//! | ")).filter_map(|row| {
        let (number, row) = row.split_once(" | ")?;
        let modules = row.split_once(" | ")?.0;
        Some((
            number.parse::<usize>().ok()?,
            modules.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>(),
        ))
    });
    let drawn: BTreeMap<usize, BTreeSet<String>> = drawn.collect();
    let held = FLOORS
        .iter()
        .enumerate()
        .map(|(index, floor)| (index + 1, floor.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>()));
    assert_eq!(drawn, held.collect());
}

#[test]
fn a_circle_and_its_way_are_found() {
    let path = |text: &str| -> ModulePath { text.split("::").map(str::to_owned).collect() };
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = ImportGraph::new();
        for (from, to) in edges {
            graph.entry(path(from)).or_default().insert(path(to));
            graph.entry(path(to)).or_default();
        }
        graph
    };
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), Vec::<String>::new());
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c::d"), ("c::d", "b")])), ["b imports c::d", "c::d imports b"]);
    let trees = expand_use_tree("crate::store::{self, held::{Held, Release as Freed}, micros}");
    let expected = ["crate::store", "crate::store::held::Held", "crate::store::held::Release", "crate::store::micros"];
    assert_eq!(trees, expected.map(path));
}
