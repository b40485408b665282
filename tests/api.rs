//! The chart's copies of what the Rust types say.

use std::path::Path;

/// Set to `1`, this variable makes the tests write the files they would compare.
const UPDATE: &str = "UPDATE";

fn assert_current(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        std::fs::write(&path, wanted).expect("the chart's file is writable");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the Rust types say: run `UPDATE=1 cargo test --test api` and commit the result",
        path.display()
    );
}

#[test]
fn the_chart_ships_the_generated_crds() {
    assert_current(
        "charts/granary/files/crds.yaml",
        &granary::api::crds_yaml().expect("the CRDs are YAML"),
    );
}
