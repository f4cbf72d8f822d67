//! The archive that a kernel unpacks into its first root file system: cpio in the `newc` format
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

use std::collections::BTreeSet;

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// An archive under construction. Paths are absolute; the folders they lie in are made.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: BTreeSet<String>,
}

impl Archive {
    /// Adds a folder.
    pub(super) fn folder(&mut self, path: &str) {
        self.add(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds a file, which anyone may execute. What is there already stays.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.add(path, REGULAR | 0o755, content);
    }

    /// Whether a path is in the archive.
    pub(super) fn contains(&self, path: &str) -> bool {
        self.entries.contains(path.trim_matches('/'))
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 0, &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.entries.insert(path.to_owned()) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
        self.entry(path, self.entries.len(), mode, content);
    }

    /// Six magic digits, thirteen numbers of eight hexadecimal digits, the name, the content; name and content padded
    /// to four bytes.
    fn entry(&mut self, name: &str, inode: usize, mode: u32, content: &[u8]) {
        const ROOT: usize = 0;
        let (mode, links, name_size) = (mode as usize, 1, name.len() + 1);
        let header = [inode, mode, ROOT, ROOT, links, 0, content.len(), 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: path, mode, content.
    fn entries(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                usize::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701", "at {at}");
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            let content = (at + 110 + name_size).next_multiple_of(4);
            at = (content + size).next_multiple_of(4);
            let name = String::from_utf8(name.to_vec()).unwrap();
            if name == "TRAILER!!!" {
                assert_eq!(at, bytes.len());
                return entries;
            }
            entries.push((name, u32::try_from(mode).unwrap(), bytes[content..content + size].to_vec()));
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut archive = Archive::default();
        archive.file("/lib/x/a.so", b"12345");
        archive.file("bin/sh", b"");
        archive.file("/lib/x/a.so", b"again");
        archive.folder("/lib");
        assert!(archive.contains("/lib/x") && !archive.contains("/usr"));
        let expected = [
            ("lib", DIRECTORY | 0o755, ""),
            ("lib/x", DIRECTORY | 0o755, ""),
            ("lib/x/a.so", REGULAR | 0o755, "12345"),
            ("bin", DIRECTORY | 0o755, ""),
            ("bin/sh", REGULAR | 0o755, ""),
        ];
        let expected =
            expected.map(|(name, mode, content)| (name.to_owned(), mode, content.as_bytes().to_vec()));
        assert_eq!(entries(&archive.finish()), expected);
    }
}
