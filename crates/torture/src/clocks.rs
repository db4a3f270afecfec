//! Wall clocks of processes that can be made wrong while these run, by libfaketime, which reads from a file how much. The clock that
//! only runs forward stays as it is, as it does on a machine whose time is set.

use std::path::{Path, PathBuf};

use waldelta_testkit::ServiceOptions;

/// The clock of a process.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that is right. `None` where libfaketime is not installed.
    pub(crate) fn new(file: PathBuf) -> Option<Self> {
        let mut folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
        let library = folders.find_map(|folder| {
            Some(folder.path().join("faketime/libfaketimeMT.so.1")).filter(|library| library.exists())
        })?;
        let clock = Clock { library, file };
        clock.put_off(0);
        Some(clock)
    }

    /// A process that goes by it.
    pub(crate) fn add_to(&self, options: ServiceOptions) -> ServiceOptions {
        let text = |path: &Path| path.as_os_str().to_owned();
        options
            .env("LD_PRELOAD", text(&self.library))
            .env("FAKETIME_TIMESTAMP_FILE", text(&self.file))
            // It is looked into once a second.
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }

    /// Has it be off by so many seconds, within a second.
    pub(crate) fn put_off(&self, by_s: i64) {
        let next = self.file.with_extension("next");
        // Renamed, so that nobody reads half of it.
        std::fs::write(&next, format!("{by_s:+}\n")).unwrap();
        std::fs::rename(next, &self.file).unwrap();
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.file);
    }
}
