//! Holds the documents to the repository: paths that they name exist, links resolve, examples pass validation.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};

use granary::api::validate;
use granary::api::validate::Verdict;

/// Folders of the repository that documents name paths in.
const FOLDERS: [&str; 7] = [
    "charts/",
    "docs/",
    "migrations/",
    "src/",
    "tenant-template/",
    "tests/",
    "xtask/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document that people write, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut documents = vec![
        root().join("README.md"),
        root().join("docs/architecture.md"),
    ];
    documents.extend(files(&root().join("docs/decisions"), "md"));
    documents
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a document");
            (path, text)
        })
        .collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

/// Paths of the repository that a text names, as code or in a sentence.
fn named_paths(text: &str) -> Vec<&str> {
    let part_of_a_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    text.split(|c: char| !part_of_a_path(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .collect()
}

/// Targets of a text's links, those to the web left out.
fn links(text: &str) -> Vec<&str> {
    let ends = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    ends.filter(|target| !target.contains("://")).collect()
}

/// Headings of a text, as links name them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// Blocks of YAML, without the indentation that a list gives them.
fn yaml_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in text.lines() {
        let code = line.trim_start();
        match &mut open {
            None if code == "```yaml" => open = Some((line.len() - code.len(), String::new())),
            None => {}
            Some(_) if code == "```" => blocks.extend(open.take().map(|(_, block)| block)),
            Some((indentation, block)) => {
                block.push_str(line.get(*indentation..).unwrap_or_default());
                block.push('\n');
            }
        }
    }
    blocks
}

/// What the API server would say against a text's objects.
fn faults(yaml: &str) -> Vec<String> {
    let checked = match validate(yaml) {
        Ok(checked) => checked,
        Err(error) => return vec![error.to_string()],
    };
    checked
        .into_iter()
        .filter_map(|object| match object.verdict {
            Verdict::Valid => None,
            Verdict::Invalid(findings) => Some(format!("{} {findings:?}", object.name)),
            Verdict::Foreign => Some(format!("{:?} is no resource of Granary's", object.kind)),
        })
        .collect()
}

fn is_example(yaml: &str) -> bool {
    yaml.lines().any(|line| line.starts_with("kind:"))
}

#[test]
fn paths_that_documents_name_exist() {
    let mut found = 0;
    for (document, text) in documents() {
        for path in named_paths(&text) {
            found += 1;
            assert!(
                root().join(path).exists(),
                "{} names {path}, which does not exist",
                document.display()
            );
        }
    }
    assert!(found > 50, "only {found} paths were found in the documents");
}

#[test]
fn links_lead_somewhere() {
    let mut found = 0;
    for (document, text) in documents() {
        for link in links(&text) {
            found += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().expect("a folder").join(file),
            };
            let place = format!("{} links to {link}", document.display());
            assert!(target.exists(), "{place}, which does not exist");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).expect("a document");
                let has_it = anchors(&text).iter().any(|heading| heading == anchor);
                assert!(has_it, "{place}, which has no such heading");
            }
        }
    }
    assert!(found > 10, "only {found} links were found in the documents");
}

#[test]
fn examples_are_what_the_api_server_takes() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let mut examples: Vec<String> = yaml_blocks(&readme)
        .into_iter()
        .filter(|block| is_example(block))
        .collect();
    let folder = root().join("docs/examples");
    if folder.exists() {
        let texts = files(&folder, "yaml")
            .into_iter()
            .map(|path| fs::read_to_string(path).expect("an example"));
        examples.extend(texts);
    }
    assert!(examples.len() >= 3, "the examples were not found");
    for example in examples {
        assert_eq!(faults(&example), [""; 0], "{example}");
    }
}

#[test]
fn every_decision_is_listed() {
    let folder = root().join("docs/decisions");
    let list = fs::read_to_string(folder.join("README.md")).expect("the list");
    let listed = links(&list);
    for path in files(&folder, "md") {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(
            name == "README.md" || listed.contains(&name.as_str()),
            "{name} is not in the list"
        );
    }
}

#[test]
fn the_checks_see_what_is_wrong() {
    assert_eq!(
        named_paths(
            "see `src/x.rs`, (docs/y.md) and tests/z. Not /usr/src/a or https://b.example/src/c"
        ),
        ["src/x.rs", "docs/y.md", "tests/z"]
    );
    assert_eq!(
        links("[a](b.md#c-d) and [e](https://f.example)"),
        ["b.md#c-d"]
    );
    assert_eq!(
        anchors("# One\ntext\n## The `two` words"),
        ["one", "the-two-words"]
    );
    let blocks = yaml_blocks("1. x\n   ```yaml\n   kind: Tenant\n     a: b\n   ```\n");
    assert_eq!(blocks, ["kind: Tenant\n  a: b\n"]);
    assert!(is_example(&blocks[0]));
    assert_eq!(
        faults(
            "apiVersion: granary.dev/v1alpha1\nkind: Tenant\nmetadata: {name: acme}\nspec: {plan: small}\n"
        ),
        [""; 0]
    );
    assert_eq!(faults("apiVersion: granary.dev/v1alpha1\nkind: Tenant\nmetadata: {name: acme}\nspec: {plan: small, wrong: 1}\n").len(), 1);
    assert_eq!(faults("kind: Tenant\n").len(), 1);
}
