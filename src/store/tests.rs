//! The store against a real directory, with another process's view played by a second open of it.

use super::*;
use wharf_core::CgroupPaths;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wharf-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Place(path)
    }

    fn store(&self) -> Store {
        Store::make(&self.0).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}

fn record(id: &str) -> Record {
    Record {
        version: RECORD_VERSION,
        id: id.to_owned(),
        oci_version: "1.0.2".to_owned(),
        bundle: "/b".to_owned(),
        rootfs: "/b/rootfs".to_owned(),
        backend: "native".to_owned(),
        route: String::new(),
        rule: None,
        argv0: String::new(),
        owner: 0,
        created: "2026-01-01T00:00:00Z".to_owned(),
        state: None,
        init: None,
        engine_pid: 0,
        cgroup: CgroupPaths::default(),
        annotations: Default::default(),
        poststart: Vec::new(),
        poststop: Vec::new(),
        witness: None,
        clones: Vec::new(),
        private: wharf_core::Opaque::default(),
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn directories_and_records_are_for_their_owner_alone() {
    let place = Place::new("modes");
    let entry = place.store().create(&id("c")).unwrap();
    entry.save_draft(&record("c")).unwrap();
    assert_eq!(mode(&place.0), 0o700);
    assert_eq!(mode(&place.0.join("c")), 0o700);
    assert_eq!(mode(&place.0.join("c/record.json")), 0o600);
    entry.save(&record("c")).unwrap();
    assert_eq!(mode(&place.0.join("c/record.json")), 0o600);
}

#[test]
fn a_saved_record_is_read_back_and_removed_without_a_trace() {
    let place = Place::new("life");
    let store = place.store();
    let entry = store.create(&id("c")).unwrap();
    entry.save_draft(&record("c")).unwrap();
    let mut made = record("c");
    made.engine_pid = 7;
    entry.save(&made).unwrap();
    std::fs::write(place.0.join("c/start.sock"), "").unwrap();
    assert_eq!(store.find(&id("c")).unwrap().unwrap().record().unwrap().unwrap().engine_pid, 7);
    assert_eq!(store.ids().unwrap(), [id("c")]);
    store.remove(&entry).unwrap();
    assert!(store.find(&id("c")).unwrap().is_none());
    assert!(store.ids().unwrap().is_empty());
}

#[test]
fn an_id_is_taken_while_it_is_being_created_and_afterwards() {
    let place = Place::new("exists");
    let store = place.store();
    let entry = store.create(&id("c")).unwrap();
    let taken = |store: &Store| store.create(&id("c")).unwrap_err();
    assert_eq!(taken(&store).kind(), Kind::Exists);
    entry.save_draft(&record("c")).unwrap();
    drop(entry);
    assert_eq!(taken(&store).to_string(), "container with id c already exists (delete it first)");
}

#[test]
fn a_directory_left_by_an_interrupted_create_is_taken_over() {
    let place = Place::new("left");
    let store = place.store();
    drop(store.create(&id("c")).unwrap());
    std::fs::write(place.0.join("c/record.json"), "{\"version\":1,\"id\":\"c").unwrap();
    std::fs::write(place.0.join("c/start.sock"), "").unwrap();
    assert!(store.find(&id("c")).unwrap().unwrap().record().unwrap().is_none());
    let entry = store.create(&id("c")).unwrap();
    assert!(dir::names(entry.dir()).unwrap().is_empty());
}

#[test]
fn a_lock_taken_on_a_removed_directory_says_that_the_container_is_gone() {
    let place = Place::new("gone");
    let store = place.store();
    let entry = store.create(&id("c")).unwrap();
    let late = store.find(&id("c")).unwrap().unwrap();
    assert_eq!(store.try_lock(&late).unwrap(), Some(false));
    store.remove(&entry).unwrap();
    drop(entry);
    assert_eq!(store.lock(&late).unwrap(), None);
}

#[test]
fn probing_never_waits_and_leaves_no_lock() {
    let place = Place::new("busy");
    let store = place.store();
    let entry = store.create(&id("c")).unwrap();
    let probe = store.find(&id("c")).unwrap().unwrap();
    assert!(probe.busy().unwrap());
    entry.unlock().unwrap();
    assert!(!probe.busy().unwrap());
    assert_eq!(store.try_lock(&entry).unwrap(), Some(true));
}

#[test]
fn only_one_of_many_creators_wins_and_none_is_left_without_a_directory() {
    let place = Place::new("race");
    place.store();
    for _ in 0..50 {
        let winners: usize = std::thread::scope(|scope| {
            let attempts: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let store = place.store();
                        match store.create(&id("c")) {
                            Ok(entry) => {
                                entry.save_draft(&record("c")).unwrap();
                                1
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), Kind::Exists, "{error}");
                                0
                            }
                        }
                    })
                })
                .collect();
            attempts.into_iter().map(|attempt| attempt.join().unwrap()).sum()
        });
        assert_eq!(winners, 1);
        let store = place.store();
        let entry = store.find(&id("c")).unwrap().unwrap();
        store.lock(&entry).unwrap().unwrap();
        store.remove(&entry).unwrap();
    }
}

#[test]
fn creating_and_deleting_at_once_never_removes_a_living_container() {
    let place = Place::new("churn");
    place.store();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let store = place.store();
                for _ in 0..200 {
                    if let Ok(entry) = store.create(&id("c")) {
                        entry.save_draft(&record("c")).unwrap();
                        assert!(place.0.join("c/record.json").exists(), "removed under the lock of its creator");
                        store.remove(&entry).unwrap();
                    }
                }
            });
        }
    });
    assert!(!place.0.join("c").exists());
}

#[test]
fn links_under_the_root_are_not_followed() {
    let place = Place::new("links");
    let store = place.store();
    let elsewhere = Place::new("links-elsewhere");
    std::fs::create_dir(&elsewhere.0).unwrap();
    std::os::unix::fs::symlink(&elsewhere.0, place.0.join("c")).unwrap();
    assert!(store.find(&id("c")).is_err());
    assert!(store.create(&id("c")).is_err());
    let entry = store.create(&id("d")).unwrap();
    std::fs::write(elsewhere.0.join("r"), serde_json::to_vec(&record("d")).unwrap()).unwrap();
    std::os::unix::fs::symlink(elsewhere.0.join("r"), place.0.join("d/record.json")).unwrap();
    assert!(entry.record().is_err());
    assert!(entry.save_draft(&record("d")).is_err());
}

#[test]
fn a_directory_that_others_may_write_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("trust");
    let store = place.store();
    let entry = store.create(&id("c")).unwrap();
    std::fs::set_permissions(place.0.join("c"), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(store.lock(&entry).unwrap_err().to_string().contains("others may write to it (mode 0777)"));
}

#[test]
fn a_newer_record_is_refused_by_name_and_a_broken_one_is_not_taken_for_an_interrupted_create() {
    let newer = parse(&id("c"), br#"{"version":9,"everything":"else"}"#).unwrap_err();
    assert_eq!(newer.kind(), Kind::Unsupported);
    assert!(newer.to_string().starts_with("record of container c: it has version 9, this wharf reads up to version"));
    assert_eq!(parse(&id("c"), br#"{"version":1}"#).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(parse(&id("c"), b"not json").unwrap_err().kind(), Kind::Invalid);
    let other = serde_json::to_vec(&record("d")).unwrap();
    assert!(parse(&id("c"), &other).unwrap_err().to_string().contains("it is of container \"d\""));
}

#[test]
fn a_create_outlasts_those_who_look_into_its_new_directory() {
    let place = Place::new("looked-at");
    let store = place.store();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let store = place.store();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok(Some(entry)) = store.find(&id("c")) {
                    let _ = entry.busy();
                }
            }
        });
        let made: Vec<_> = (0..1000)
            .map(|_| {
                let entry = store.create(&id("c"))?;
                store.remove(&entry)
            })
            .collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        for made in made {
            made.unwrap();
        }
    });
}
