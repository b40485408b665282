//! Names the assets by their contents, and rebuilds when a migration changes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    // A new migration file changes no Rust source, but must change the binary.
    println!("cargo::rerun-if-changed=migrations");
    let mut constants = Vec::new();
    for (name, file, extension) in [("STYLE_PATH", "book", "css"), ("ICON_PATH", "icon", "svg")] {
        let path = format!("assets/{file}.{extension}");
        println!("cargo::rerun-if-changed={path}");
        let mut hasher = DefaultHasher::new();
        fs::read(&path)?.hash(&mut hasher);
        let hash = hasher.finish();
        constants.push(format!(
            "pub(super) const {name}: &str = \"/assets/{file}.{hash:016x}.{extension}\";\n"
        ));
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("assets.rs"), constants.concat())
}
