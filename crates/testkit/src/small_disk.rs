//! A disk that a test can fill: a file system in memory, of limited size, mounted in /tmp.
//!
//! Mounting is for root. Where it is not permitted there is none, and the test says that it does not apply.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::TestCluster;

const FILLER: &str = "filler";

/// The disk. It is unmounted when this is dropped, when nobody uses it any more, and also if the test is killed.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _unmounter: Child,
    /// Its end tells the unmounter to begin.
    _alive: Option<ChildStdin>,
}

impl SmallDisk {
    /// Mounts one of so many MB; or says why that is not permitted here.
    pub fn mount(megabytes: u32) -> Result<Self, String> {
        static MOUNTED: AtomicU32 = AtomicU32::new(0);
        let number = MOUNTED.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/waldelta-disk-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=755"), "waldelta-test"])
            .arg(&path)
            .output();
        if !mounted.as_ref().is_ok_and(|mounted| mounted.status.success()) {
            std::fs::remove_dir(&path).unwrap();
            return Err(format!("no disk can be mounted here ({mounted:?})"));
        }
        let mut unmounter = Command::new("/bin/sh")
            .args(["-c", include_str!("unmount.sh"), "waldelta-unmount"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // What ends the test must not end it.
            .process_group(0)
            .spawn()
            .unwrap();
        let alive = unmounter.stdin.take();
        Ok(SmallDisk { path, _unmounter: unmounter, _alive: alive })
    }

    /// Where it is mounted. Its owner is root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder on it that belongs to the user of this cluster, for a tablespace.
    pub fn folder_for(&self, cluster: &TestCluster) -> PathBuf {
        let folder = self.path.join("tablespace");
        std::fs::create_dir(&folder).unwrap();
        let owner = cluster.data_dir().metadata().unwrap();
        chown(&folder, Some(owner.uid()), Some(owner.gid())).unwrap();
        folder
    }

    /// Writes a file until nothing fits any more.
    pub fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.path.join(FILLER)).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            let full = loop {
                if let Err(error) = filler.write_all(&block) {
                    break error;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        }
    }

    /// Removes that file again.
    pub fn clear(&self) {
        std::fs::remove_file(self.path.join(FILLER)).unwrap();
    }
}
