//! A disk that a test can fill: a file system in memory, of limited size, mounted in /tmp.
//!
//! Mounting is for root. Where it is not permitted there is none, and the test says that it does not apply.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::TestCluster;

/// It is used while it is filled: so often that is tried, each time with a little more room left.
const FILL_ATTEMPTS_MAX: u64 = 100;
const FILL_STEP_BYTES: u64 = 16 << 10;

/// The disk. It is unmounted when this is dropped, when nobody uses it any more, and also if the test is killed.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    bytes: u64,
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
        Ok(SmallDisk { path, bytes: u64::from(megabytes) << 20, _unmounter: unmounter, _alive: alive })
    }

    /// Where it is mounted. Its owner is root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder of this name on it that belongs to the user of this cluster: for a tablespace, or its WAL.
    pub fn folder_for(&self, cluster: &TestCluster, name: &str) -> PathBuf {
        let folder = self.path.join(name);
        std::fs::create_dir(&folder).unwrap();
        let owner = cluster.data_dir().metadata().unwrap();
        chown(&folder, Some(owner.uid()), Some(owner.gid())).unwrap();
        folder
    }

    /// Leaves it room for nothing more: it becomes as small as what is on it, which takes no memory as a file would.
    pub fn fill(&self) {
        let filled = (0..FILL_ATTEMPTS_MAX).any(|attempt| {
            let used = self.used_bytes();
            used.is_some_and(|used| self.resize(used + attempt * FILL_STEP_BYTES))
        });
        assert!(filled, "{} cannot be made smaller", self.path.display());
    }

    /// Gives it its room again.
    pub fn clear(&self) {
        assert!(self.resize(self.bytes), "{} cannot be made larger", self.path.display());
    }

    /// The bytes that are used of it.
    pub fn used_bytes(&self) -> Option<u64> {
        let said = Command::new("df").args(["-B1", "--output=used"]).arg(&self.path).output().ok()?;
        String::from_utf8_lossy(&said.stdout).lines().nth(1)?.trim().parse().ok()
    }

    /// Whether it could be made so large: not if more is on it.
    fn resize(&self, bytes: u64) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(&self.path);
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}
