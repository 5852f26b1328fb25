//! Writes the archive that a kernel unpacks as its first root (cpio, "newc"; the kernel's
//! driver-api/early-userspace/buffer-format).

/// An archive that grows.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    pub(crate) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.entry(name, REGULAR | mode, (0, 0), bytes);
    }

    /// A character device.
    pub(crate) fn device(&mut self, name: &str, number: (u32, u32)) {
        self.entry(name, CHARACTER | 0o600, number, &[]);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), bytes: &[u8]) {
        self.inode += 1;
        let fields = [self.inode, mode, 0, 0, 1, 0, bytes.len() as u32, 0, 0, major, minor, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bytes_begin_where_the_kernel_looks_for_them() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.device("dev/null", (1, 3));
        archive.file("init", 0o755, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let mut at = 0;
        let mut found = Vec::new();
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                usize::from_str_radix(std::str::from_utf8(&bytes[at + 6 + 8 * n..at + 14 + 8 * n]).unwrap(), 16)
                    .unwrap()
            };
            let (mode, size, name) = (field(1), field(6), field(11));
            let text = std::str::from_utf8(&bytes[at + 110..at + 110 + name - 1]).unwrap();
            let from = (at + 110 + name).next_multiple_of(4);
            found.push((text.to_owned(), mode, (field(9), field(10)), bytes[from..from + size].to_vec()));
            at = (from + size).next_multiple_of(4);
        }
        assert_eq!(found[0], ("dev".to_owned(), 0o040_755, (0, 0), vec![]));
        assert_eq!(found[1], ("dev/null".to_owned(), 0o020_600, (1, 3), vec![]));
        assert_eq!(found[2], ("init".to_owned(), 0o100_755, (0, 0), b"12345".to_vec()));
        assert_eq!(found[3].0, "TRAILER!!!");
    }
}
