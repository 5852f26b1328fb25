//! Archives in the form of tar(5), ustar: regular files alone, one after the other, none known before it comes.

use std::io::{Error, ErrorKind, Read, Result, Write};

const BLOCK: usize = 512;
/// Eleven octal digits; what is larger is written in base 256, as GNU tar does.
const MOST_OCTAL: u64 = 0o777_7777_7777;

pub(crate) struct Writer<W>(pub(crate) W);

impl<W: Write> Writer<W> {
    /// `content` must have `size` bytes. `name` is at most 100 bytes long.
    pub(crate) fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        self.0.write_all(&header(name, size)?)?;
        let copied = std::io::copy(&mut content.take(size), &mut self.0)?;
        if copied != size {
            return Err(Error::new(ErrorKind::UnexpectedEof, format!("{name} has become shorter")));
        }
        let rest = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.0.write_all(&[0; BLOCK][..rest as usize])
    }

    pub(crate) fn end(mut self) -> Result<()> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        self.0.flush()
    }
}

fn header(name: &str, size: u64) -> Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    if name.len() > 100 {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{name} is too long a name for an archive")));
    }
    block[..name.len()].copy_from_slice(name.as_bytes());
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(136, "00000000000\0");
    put(156, "0");
    put(257, "ustar\u{0}00");
    match size <= MOST_OCTAL {
        true => put(124, &format!("{size:011o}\0")),
        false => {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
    }
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// With blanks in the place of itself.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

pub(crate) struct Reader<R> {
    from: R,
    /// Of the current file, with what fills its last block.
    left: u64,
    fill: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Reader { from, left: 0, fill: 0 }
    }

    /// Name and size of the next file, which is then read from here; none at the end of the archive. One that ends without
    /// its mark is cut short.
    pub(crate) fn next(&mut self) -> Result<Option<(String, u64)>> {
        std::io::copy(&mut (&mut self.from).take(self.left + self.fill), &mut std::io::sink())?;
        (self.left, self.fill) = (0, 0);
        let mut block = [0; BLOCK];
        self.from.read_exact(&mut block).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::new(ErrorKind::UnexpectedEof, "it is cut short"),
            _ => error,
        })?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let wrong = |why: &str| Error::new(ErrorKind::InvalidData, why.to_owned());
        let octal = |bytes: &[u8]| -> Option<u64> {
            let text = std::str::from_utf8(bytes).ok()?;
            u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
        };
        if octal(&block[148..156]) != Some(checksum(&block).into()) {
            return Err(wrong("it is damaged, or no archive"));
        }
        if !matches!(block[156], b'0' | 0) {
            return Err(wrong("it holds something else than files"));
        }
        let size = match block[124] {
            0x80 => u64::from_be_bytes(block[128..136].try_into().unwrap_or_default()),
            _ => octal(&block[124..136]).ok_or_else(|| wrong("a size in it is no number"))?,
        };
        let end = block[..100].iter().position(|byte| *byte == 0).unwrap_or(100);
        let name = std::str::from_utf8(&block[..end]).map_err(|_| wrong("a name in it is not UTF-8"))?.to_owned();
        (self.left, self.fill) = (size, (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64);
        Ok(Some((name, size)))
    }

    /// The rest of the current file, into `to`.
    pub(crate) fn copy(&mut self, to: &mut dyn Write) -> Result<()> {
        let left = self.left;
        let copied = std::io::copy(&mut (&mut self.from).take(left), to)?;
        self.left -= copied;
        match self.left {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::UnexpectedEof, "it is cut short")),
        }
    }

    /// The same where it is small.
    pub(crate) fn bytes(&mut self, most: u64) -> Result<Vec<u8>> {
        if self.left > most {
            return Err(Error::new(ErrorKind::InvalidData, "a file in it is too large"));
        }
        let mut bytes = Vec::new();
        self.copy(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_short_is_found_out() {
        let mut writer = Writer(Vec::new());
        let files = [("a", 0), ("disk/0/000001", 511), ("b", 512), ("c", 70_000)];
        for (name, size) in files {
            writer.file(name, size, &mut &vec![b'x'; size as usize][..]).unwrap();
        }
        writer.0.extend_from_slice(&[0; 1024]);
        let bytes = writer.0;
        let mut reader = Reader::new(&bytes[..]);
        for (name, size) in files {
            assert_eq!(reader.next().unwrap(), Some((name.to_owned(), size)));
            if size != 512 {
                assert_eq!(reader.bytes(1 << 20).unwrap().len() as u64, size);
            }
        }
        assert_eq!(reader.next().unwrap(), None);
        for end in [0, 100, 600, 2000, bytes.len() - 1024] {
            let mut reader = Reader::new(&bytes[..end]);
            let error = loop {
                match reader.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{end} bytes look whole"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.to_string(), "it is cut short");
        }
        let mut damaged = bytes.clone();
        damaged[3] ^= 1;
        assert_eq!(Reader::new(&damaged[..]).next().unwrap_err().to_string(), "it is damaged, or no archive");
    }

    #[test]
    fn sizes_beyond_eight_gigabytes_are_told() {
        let size = 1 << 40;
        let block = header("pages-1.img", size).unwrap();
        assert_eq!(Reader::new(&block[..]).next().unwrap(), Some(("pages-1.img".to_owned(), size)));
        assert!(header(&"n".repeat(101), 1).is_err());
    }
}
