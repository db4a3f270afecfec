//! What tests that were killed left in the folder for temporary files: folders of clusters, configuration files, logs that a test
//! keeps when it fails.
//!
//! Each has the id of its process in its name: `wd-4711-0`, `waldelta-service-4711-0.log`. It goes an hour after it was made if
//! that process is gone; until then somebody may still read it, or the server in it be stopping.

use std::fs::{Metadata, read_dir, remove_dir_all, remove_file};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, geteuid, test_kill_process};

const PREFIXES: [&str; 2] = ["wd-", "waldelta-"];
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// Removes it, as far as that can be done.
pub fn clear() {
    clear_in(&std::env::temp_dir(), KEPT_FOR);
    // The folders of clusters are there wherever others are: the path of a socket is short.
    clear_in(Path::new("/tmp"), KEPT_FOR);
}

fn clear_in(folder: &Path, kept_for: Duration) {
    let entries = read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let Some(process) = entry.file_name().to_str().and_then(process_of) else { continue };
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        if is_alive(process) || metadata.uid() != geteuid().as_raw() || !is_older(&metadata, kept_for) {
            continue;
        }
        // Somebody else may be at it too.
        let _ = if metadata.is_dir() { remove_dir_all(entry.path()) } else { remove_file(entry.path()) };
    }
}

/// The id of the process that made a file or folder of this name; `None` if it is not one of ours.
fn process_of(name: &str) -> Option<Pid> {
    let ours = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = ours.split(['-', '.', '_']).find(is_number)?;
    // The hash of a path is no id, even where it has no letters.
    Pid::from_raw(number.parse().ok()?)
}

fn is_alive(process: Pid) -> bool {
    test_kill_process(process).is_ok()
}

fn is_older(metadata: &Metadata, than: Duration) -> bool {
    metadata.modified().ok().and_then(|made| made.elapsed().ok()).is_some_and(|age| age >= than)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_processes_left_that_are_gone_goes_and_nothing_else() {
        let mut child = Command::new("true").spawn().unwrap();
        let (gone, alive) = (child.id(), std::process::id());
        child.wait().unwrap();
        let folder = std::env::temp_dir().join(format!("waldelta-left-{alive}"));
        std::fs::create_dir_all(folder.join(format!("wd-{gone}-0/pg/base"))).unwrap();
        std::fs::create_dir(folder.join(format!("wd-{alive}-0"))).unwrap();
        let files = [
            format!("waldelta-service-{gone}-0.log"),
            format!("waldelta-test-{gone}-1.toml"),
            format!("waldelta-test-{alive}-1.toml"),
            format!("waldelta-{gone}9999999999"),
            format!("another-{gone}-0"),
            "waldelta-notes".to_owned(),
        ];
        for file in &files {
            std::fs::write(folder.join(file), "x").unwrap();
        }
        clear_in(&folder, KEPT_FOR);
        assert_eq!(read_dir(&folder).unwrap().count(), files.len() + 2, "too young");
        clear_in(&folder, Duration::ZERO);
        let mut left: Vec<_> = read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        std::fs::remove_dir_all(&folder).unwrap();
        let mut expected = vec![format!("wd-{alive}-0")];
        expected.extend_from_slice(&files[2..]);
        expected.sort();
        assert_eq!(left, expected);
    }
}
