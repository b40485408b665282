//! Unpacks the template cluster: an uncompressed ustar archive of plain files and folders, and nothing else.
//!
//! One archive read front to back costs a third of copying the same 1,300 files one by one out of an image's layers.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

const BLOCK: usize = 512;
const CHUNK: usize = 256 * 1024;

/// Unpacks `archive` into `folder`, which must not exist. Files are readable by their owner alone. Nothing is synced.
pub fn unpack(archive: &Path, folder: &Path) -> io::Result<()> {
    let mut archive = BufReader::with_capacity(CHUNK, File::open(archive)?);
    let mut chunk = vec![0; CHUNK];
    DirBuilder::new().mode(0o700).create(folder)?;
    while let Some(entry) = Entry::read(&mut archive)? {
        let path = folder.join(&entry.path);
        if entry.folder {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            continue;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut left = entry.size;
        while left > 0 {
            let part = left.min(CHUNK);
            archive.read_exact(&mut chunk[..part])?;
            file.write_all(&chunk[..part])?;
            left -= part;
        }
        archive.read_exact(&mut chunk[..entry.size.next_multiple_of(BLOCK) - entry.size])?;
    }
    Ok(())
}

/// One header of the archive.
struct Entry {
    path: PathBuf,
    size: usize,
    folder: bool,
}

impl Entry {
    /// The next header, or `None` at the archive's end mark. An archive that just stops is an error.
    fn read(archive: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; BLOCK];
        archive.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The image's digest vouches for the content; this only tells an archive from something else.
        if &header[257..262] != b"ustar" {
            return Err(invalid("a header is not one of a ustar archive"));
        }
        let mut path = PathBuf::new();
        for part in [&header[345..500], &header[..100]] {
            let end = part
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(part.len());
            path.push(OsStr::from_bytes(&part[..end]));
        }
        let path: PathBuf = path
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        if path
            .components()
            .any(|part| !matches!(part, Component::Normal(_)))
        {
            return Err(invalid("a path leaves the folder"));
        }
        let folder = match header[156] {
            b'0' => false,
            b'5' => true,
            _ => return Err(invalid("an entry is neither file nor folder")),
        };
        let size = usize::try_from(octal(&header[124..136])?)
            .map_err(|_| invalid("a file is too large"))?;
        Ok(Some(Self { path, size, folder }))
    }
}

/// A number as ustar writes it: octal digits, then a space or NUL.
fn octal(field: &[u8]) -> io::Result<u64> {
    let text = field
        .split(|byte| matches!(byte, 0 | b' '))
        .find(|part| !part.is_empty())
        .unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| invalid("a number is not octal"))?;
    u64::from_str_radix(text, 8).map_err(|_| invalid("a number is not octal"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the template archive is damaged: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = kind;
        header[257..262].copy_from_slice(b"ustar");
        header.extend(content);
        header.resize(header.len().next_multiple_of(BLOCK), 0);
        header
    }

    fn archive(parts: &[Vec<u8>]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("template.tar");
        fs::write(&path, parts.concat()).unwrap();
        (dir, path)
    }

    fn end() -> Vec<u8> {
        vec![0; 2 * BLOCK]
    }

    #[test]
    fn files_and_folders_come_out_as_they_went_in_and_private() {
        let large: Vec<u8> = (0..CHUNK + 700)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let parts = [
            entry("./", b'5', b""),
            entry("./base/", b'5', b""),
            entry("./base/1", b'0', &large),
            entry("./base/empty", b'0', b""),
            entry("./PG_VERSION", b'0', b"17\n"),
            end(),
        ];
        let (dir, path) = archive(&parts);
        let out = dir.path().join("out");
        unpack(&path, &out).unwrap();
        assert_eq!(fs::read(out.join("base/1")).unwrap(), large);
        assert_eq!(fs::read(out.join("base/empty")).unwrap(), b"");
        assert_eq!(fs::read(out.join("PG_VERSION")).unwrap(), b"17\n");
        assert_eq!(
            fs::metadata(out.join("base/1"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(&out).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_path_cannot_leave_the_folder() {
        for name in ["../evil", "/evil", "base/../../evil"] {
            let (dir, path) = archive(&[entry(name, b'0', b"x"), end()]);
            let error = unpack(&path, &dir.path().join("out")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}");
            assert!(!dir.path().join("evil").exists());
        }
    }

    #[test]
    fn links_damage_and_a_cut_off_archive_are_errors() {
        let mut flipped = entry("./a", b'0', b"x");
        flipped[257] = b'!';
        for (parts, kind) in [
            (
                vec![entry("./a", b'2', b""), end()],
                io::ErrorKind::InvalidData,
            ),
            (vec![flipped, end()], io::ErrorKind::InvalidData),
            (vec![entry("./a", b'0', b"x")], io::ErrorKind::UnexpectedEof),
        ] {
            let (dir, path) = archive(&parts);
            assert_eq!(
                unpack(&path, &dir.path().join("out")).unwrap_err().kind(),
                kind
            );
        }
    }
}
