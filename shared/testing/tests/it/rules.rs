//! The rules of this repository that a reader relies on and no compiler knows.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every file below `folder` whose name ends in one of `endings`, with its text and its path from the root.
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["node_modules", "target", "dist"].contains(&name.as_str()) {
                walk(&path, found);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| (path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| endings.iter().any(|ending| name.ends_with(ending)))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect()
}

fn sources() -> Vec<(String, String)> {
    let deployed = |name: &str| name.contains("/src/") && !name.starts_with("shared/testing");
    [files("functions", &[".rs"]), files("shared", &[".rs"])]
        .concat()
        .into_iter()
        .filter(|(name, _)| deployed(name))
        .collect()
}

#[test]
fn functions_depend_on_shared_and_never_on_each_other() {
    let manifests = files("functions", &["Cargo.toml"]);
    assert_eq!(manifests.len(), 4);
    for (name, text) in &manifests {
        let dependencies = text.split_once("[dependencies]").unwrap().1;
        for function in ["register", "add-service", "check-services", "rotate-keys"] {
            assert!(!dependencies.contains(&format!("\n{function}")), "{name} depends on {function}");
        }
    }
}

#[test]
fn a_main_composes_and_runs_and_nothing_else() {
    let mains: Vec<_> = sources().into_iter().filter(|(name, _)| name.ends_with("/main.rs")).collect();
    assert_eq!(mains.len(), 4);
    for (name, text) in mains {
        assert!(text.lines().count() <= 40, "{name} has {} lines", text.lines().count());
        for line in text.lines().filter(|line| line.contains(")?")) {
            assert!(
                line.contains("inspect_err(cannot_start)?"),
                "{name} gives up without a log line: {line}"
            );
        }
    }
}

#[test]
fn a_private_key_cannot_be_printed_copied_or_serialised() {
    let key = fs::read_to_string(root().join("shared/domain/src/key.rs")).unwrap();
    let (before, _) = key.split_once("pub struct PrivateKey").unwrap();
    let attributes = before.lines().rev().take_while(|line| !line.is_empty());
    assert!(attributes.clone().all(|line| line.starts_with("///")), "PrivateKey derives something");
    let impls: Vec<_> = sources()
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter(|line| line.starts_with("impl") && line.contains("for PrivateKey"))
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(impls, ["impl Sign for PrivateKey {"]);
}

#[test]
fn every_sample_event_is_used_by_a_test() {
    let tests =
        [files("functions", &[".rs"]), files("shared", &[".rs"]), files("forge-app", &[".ts"])].concat();
    let events = files("events", &[".json"]);
    assert!(events.len() >= 10, "{}", events.len());
    for (event, text) in events {
        assert!(tests.iter().any(|(_, test)| test.contains(&event)), "no test uses {event}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let tests = [
        files("functions", &[".rs"]),
        files("shared", &[".rs"]),
        files("forge-app", &[".ts"]),
        files("infra/local/tests", &[".py"]),
    ]
    .concat();
    let security = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (_, section) = security.split_once("## Who, and what stops them").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let shown_by = section.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "));
    // What stands between backticks is every second part.
    let named: Vec<_> = shown_by.flat_map(|(_, cell)| cell.split('`').skip(1).step_by(2)).collect();
    assert!(named.len() >= 40, "{}", named.len());
    for name in named {
        let forms = [format!("fn {name}("), format!("def {name}("), format!("it('{name}'")];
        let exists = tests.iter().any(|(_, text)| forms.iter().any(|form| text.contains(form)));
        assert!(exists, "docs/security.md names a test that is not there: {name}");
    }
}

#[test]
fn every_action_of_a_workflow_is_pinned_to_a_commit() {
    let used: Vec<_> = files(".github/workflows", &[".yml"])
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.split_once("uses:").map(|(_, action)| action.trim().to_owned()))
        .collect();
    assert!(!used.is_empty());
    for action in used {
        let (_, version) = action.split_once('@').unwrap_or_default();
        let commit = version.split(' ').next().unwrap_or_default();
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name}");
    }
}
