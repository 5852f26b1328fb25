//! `checkpoints export` and `import`: a checkpoint as one archive, with the streams of its snapshots inside.
//!
//! ```text
//! archive.json            what is in it, and what it continues
//! manifest.json           of the checkpoint, as it was
//! config.json, *.img      the files beside it
//! disk/N/NNNNNN           the stream of dataset N in pieces, as nobody knows its length before
//! ```
//!
//! An archive is believed as its maker is: digests find damage, not malice.

use super::take::home;
use crate::checkpoints::{self, Kept, Reader, Writer};
use crate::cli::Request;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use wharf_core::{CONFIG, ContainerId, DatasetEntry, Digest, Error, Kind, MANIFEST, Manifest, Result};
use wharf_disk::{Marks, Snapshot};
use wharf_sys::{libc, signal};

const ABOUT: &str = "archive.json";
const VERSION: u64 = 1;
/// Of a stream. It is held in memory.
const PIECE: usize = 4 << 20;
/// More than any manifest or config.json is long.
const SMALL: u64 = 64 << 20;

fn failed(doing: &str) -> impl Fn(std::io::Error) -> Error {
    move |error| match error.raw_os_error() {
        Some(errno) => Error::system(doing, errno),
        None => Error::new(Kind::System, doing).because(error),
    }
}

/// One end of a pipe that breaks is an error of the write to it, and not our end.
fn survive_broken_pipes() -> Result<()> {
    signal::set_mask(1 << (libc::SIGPIPE - 1)).map_err(|errno| Error::system("block SIGPIPE", errno as i32))
}

/// `from` is an earlier checkpoint of the same datasets, which whoever imports must have. None of `output` is stdout.
pub(super) fn export(kept: &Kept, from: Option<&Kept>, output: Option<&Path>) -> Result<()> {
    let doing = format!("export checkpoint {} of {}", kept.name, kept.id);
    let manifest = whole(kept, &doing)?;
    if manifest.parent.is_some() {
        return Err(Error::unsupported(&*doing).because("its memory continues that of an earlier --pre-dump"));
    }
    let entries = super::kept::entries(manifest);
    let earlier = match from {
        None => None,
        Some(from) => {
            let known = super::kept::entries(whole(from, &doing)?);
            let one = |entry: &DatasetEntry| {
                let before = known.iter().find(|known| known.guid == entry.guid).map(super::kept::snapshot);
                before.ok_or_else(|| {
                    Error::invalid(&*doing)
                        .because(format!("checkpoint {} has no snapshot of {}", from.name, entry.name))
                })
            };
            Some(entries.iter().map(one).collect::<Result<Vec<Snapshot>>>()?)
        }
    };
    survive_broken_pipes()?;
    let written = failed(&doing);
    let out: Box<dyn Write> = match output {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => {
            let file = File::options().write(true).create_new(true).mode(0o600).open(path);
            Box::new(file.map_err(failed(&format!("write archive {}", path.display())))?)
        }
    };
    let done = write(kept, entries, from, earlier.as_deref(), Writer(out), &doing, &written);
    if let (Err(_), Some(path)) = (&done, output) {
        let _ = fs::remove_file(path);
    }
    done
}

fn whole<'a>(kept: &'a Kept, doing: &str) -> Result<&'a Manifest> {
    kept.manifest.as_ref().map_err(|why| Error::invalid(doing).because(why))
}

fn write(
    kept: &Kept,
    entries: &[DatasetEntry],
    from: Option<&Kept>,
    earlier: Option<&[Snapshot]>,
    mut archive: Writer<Box<dyn Write>>,
    doing: &str,
    written: &dyn Fn(std::io::Error) -> Error,
) -> Result<()> {
    let about = serde_json::json!({
        "version": VERSION,
        "from": from.map(|from| &from.name),
        "streams": entries.len(),
    });
    let mut put = |name: &str, bytes: &[u8]| archive.file(name, bytes.len() as u64, &mut &bytes[..]).map_err(written);
    put(ABOUT, about.to_string().as_bytes())?;
    put(MANIFEST, &fs::read(kept.path.join(MANIFEST)).map_err(written)?)?;
    let mut names: Vec<String> = fs::read_dir(&kept.path)
        .map_err(written)?
        .flatten()
        .filter_map(|one| one.file_name().into_string().ok())
        .collect();
    names.retain(|name| is_kept(name));
    names.sort();
    for name in names {
        let mut file = File::open(kept.path.join(&name)).map_err(written)?;
        let size = file.metadata().map_err(written)?.len();
        archive.file(&name, size, &mut file).map_err(written)?;
    }
    for (index, entry) in entries.iter().enumerate() {
        let snapshot = super::kept::snapshot(entry);
        let before = earlier.map(|earlier| &earlier[index]);
        let (mut reader, writer) = std::io::pipe().map_err(written)?;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| wharf_disk::send(&snapshot, before, OwnedFd::from(writer)));
            let copied = pieces(&mut reader, &mut archive, index).map_err(written);
            drop(reader);
            let sent = sending.join().map_err(|_| Error::new(Kind::System, doing))?;
            copied.and(sent.map_err(Error::from))
        })?;
    }
    archive.end().map_err(written)
}

/// A file of a checkpoint that goes along: no log, and none that is being written.
fn is_kept(name: &str) -> bool {
    name == CONFIG || name.ends_with(".img") && ContainerId::new(name).is_ok()
}

fn pieces(from: &mut dyn Read, archive: &mut Writer<Box<dyn Write>>, index: usize) -> std::io::Result<()> {
    for number in 1.. {
        let mut piece = Vec::with_capacity(PIECE);
        from.take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        archive.file(&format!("disk/{index}/{number:06}"), piece.len() as u64, &mut &piece[..])?;
    }
    Ok(())
}

/// What an interrupted import has made. Dropped, it goes again.
struct Begun {
    path: PathBuf,
    snapshots: Vec<Snapshot>,
    done: bool,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.done {
            for snapshot in &self.snapshots {
                super::kept::drop_kept(snapshot);
            }
            let _ = checkpoints::remove(&self.path);
        }
    }
}

/// None of `input` is stdin.
pub(super) fn import(request: &Request, input: Option<&Path>) -> Result<()> {
    let doing = match input {
        Some(path) => format!("import checkpoint from {}", path.display()),
        None => "import checkpoint".to_owned(),
    };
    let read = failed(&doing);
    survive_broken_pipes()?;
    let from: Box<dyn Read> = match input {
        Some(path) => Box::new(File::open(path).map_err(&read)?),
        None => Box::new(std::io::stdin().lock()),
    };
    let mut archive = Reader::new(std::io::BufReader::with_capacity(1 << 16, from));
    let mut expect = |wanted: &str| match archive.next().map_err(&read)? {
        Some((name, _)) if name == wanted => archive.bytes(SMALL).map_err(&read),
        _ => Err(Error::invalid(&*doing).because("it is no archive of a checkpoint")),
    };
    let about: serde_json::Value =
        serde_json::from_slice(&expect(ABOUT)?).map_err(|error| Error::invalid(&*doing).because(error))?;
    if about["version"].as_u64() != Some(VERSION) {
        return Err(Error::unsupported(&*doing).because(format!("it has version {}", about["version"])));
    }
    let mut manifest = Manifest::parse(&expect(MANIFEST)?, "in the archive")?;
    let (Ok(id), Some(name)) = (ContainerId::new(&manifest.id), manifest.name.clone()) else {
        return Err(Error::invalid(&*doing).because("its manifest has no names"));
    };
    let path = checkpoints::named(&home(request)?, &id, &name)?;
    if path.exists() {
        return Err(Error::new(Kind::Exists, &*doing).because(format!("{} exists", path.display())));
    }
    let earlier = match about["from"].as_str() {
        None => None,
        Some(from) => Some(super::kept::find(request, &id, from).map_err(|_| {
            Error::invalid(&*doing)
                .because(format!("it continues checkpoint {from} of {id}, which is not here"))
                .hint("import that one first")
        })?),
    };
    checkpoints::make_dir(&path)?;
    let mut begun = Begun { path: path.clone(), snapshots: Vec::new(), done: false };
    let mut next = archive.next().map_err(&read)?;
    while let Some((name, _)) = next.as_ref().filter(|(name, _)| is_kept(name)) {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path.join(name));
        archive.copy(&mut file.map_err(&read)?).map_err(&read)?;
        next = archive.next().map_err(&read)?;
    }
    check(&path, &manifest, &doing)?;
    let count = super::kept::entries(&manifest).len();
    for index in 0..count {
        let entry = &super::kept::entries(&manifest)[index];
        let target = target(request, entry, earlier.as_ref(), &doing)?;
        let marks = Marks::now(id.as_str(), &name).kept_in(&path);
        let (reader, mut writer) = std::io::pipe().map_err(&read)?;
        let (snapshot, expected) = (entry.snapshot.clone(), entry.snapshot_guid);
        let got = std::thread::scope(|scope| {
            let receiving =
                scope.spawn(|| wharf_disk::receive(&target, &snapshot, expected, &marks, OwnedFd::from(reader)));
            let mut copied = Ok(());
            let prefix = format!("disk/{index}/");
            while let Some((piece, _)) = &next {
                if !piece.starts_with(&prefix) {
                    break;
                }
                copied = archive.copy(&mut writer).and_then(|()| archive.next().map(|found| next = found));
                if copied.is_err() {
                    break;
                }
            }
            drop(writer);
            let received = receiving.join().map_err(|_| Error::new(Kind::System, &*doing))?;
            // What zfs says is the cause where both failed, but for an archive that ends too early.
            match (received, copied) {
                (Ok(got), Ok(())) => Ok(got),
                (got, Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    begun.snapshots.extend(got.ok());
                    Err(read(error))
                }
                (Err(fault), _) => Err(Error::from(fault)),
                (Ok(got), Err(error)) => {
                    begun.snapshots.push(got);
                    Err(read(error))
                }
            }
        })?;
        let dataset = manifest.disk.as_mut().and_then(|disk| disk.datasets.get_mut(index));
        if let Some(entry) = dataset {
            (entry.name, entry.guid) = (got.dataset.name.clone(), got.dataset.guid);
        }
        begun.snapshots.push(got);
    }
    if next.is_some() {
        return Err(Error::invalid(&*doing).because("there is more in it than a checkpoint"));
    }
    let bytes = manifest.to_bytes()?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path.join(".manifest.json"));
    file.and_then(|mut file| file.write_all(&bytes)).map_err(&read)?;
    fs::rename(path.join(".manifest.json"), path.join(MANIFEST)).map_err(&read)?;
    begun.done = true;
    Ok(())
}

/// Where a stream goes: on from the earlier checkpoint's dataset, or to a new one.
fn target(request: &Request, entry: &DatasetEntry, earlier: Option<&Kept>, doing: &str) -> Result<String> {
    if let Some(earlier) = earlier {
        let known = super::kept::entries(whole(earlier, doing)?);
        let same = known.iter().find(|known| known.paths == entry.paths);
        return same.map(|known| known.name.clone()).ok_or_else(|| {
            Error::invalid(doing).because(format!(
                "checkpoint {} has nothing of {}",
                earlier.name,
                entry.paths.join(", ")
            ))
        });
    }
    let configured = request.configuration.as_ref().and_then(|configuration| configuration.zfs_dataset());
    let parent = configured.ok_or_else(|| {
        Error::invalid(doing).because("storage.zfs_dataset is not in the configuration: there is no place for its disk")
    })?;
    Ok(format!("{parent}/{}{:016x}", super::kept::IMPORTED, entry.snapshot_guid))
}

/// Every file as the manifest has it, before anything is made of it.
fn check(path: &Path, manifest: &Manifest, doing: &str) -> Result<()> {
    let wrong = |why: String| Err(Error::invalid(doing).because(why));
    let mut digest = Digest::new();
    digest.update(&fs::read(path.join(CONFIG)).map_err(failed(doing))?);
    if digest.hex() != manifest.spec.sha256 {
        return wrong(format!("{CONFIG} in it is another than the manifest says"));
    }
    let Some(memory) = &manifest.memory else { return Ok(()) };
    let opened = wharf_sys::dir::open(path).map_err(|errno| Error::system(doing, errno as i32))?;
    let found = checkpoints::sums(std::os::fd::AsFd::as_fd(&opened), path, |_| true)?;
    for file in &memory.files {
        match found.iter().find(|found| found.name == file.name) {
            None => return wrong(format!("image {} is missing in it", file.name)),
            Some(found) if found.size != file.size || file.sha256.is_some() && found.sha256 != file.sha256 => {
                return wrong(format!("image {} in it is another than the manifest says", file.name));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
