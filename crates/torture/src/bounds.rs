//! What each process takes of the machine, looked at all the time: open files, and how long what the source sends lies unread (I13).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::round::Stage;

/// The kernel's table of sockets is long, and dear to read.
const INTERVAL: Duration = Duration::from_secs(3);
/// The clients of a round, connections to the databases, and as many again.
const OPEN_FILES_MAX: usize = 300;
/// Far beyond `stall_timeout_ms`, after which a connection that cannot be read is closed.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Bytes that lie unread in a socket, by its own port, and since when they are as many.
type Unread = HashMap<u16, (u64, Instant)>;

/// Looks until the task is ended.
pub(crate) async fn run(stage: Arc<Stage>) {
    let mut ticks = interval(INTERVAL);
    let mut unread: Vec<Unread> = (0..stage.fleet.len()).map(|_| Unread::new()).collect();
    loop {
        ticks.tick().await;
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        for (number, unread) in unread.iter_mut().enumerate() {
            let Some((name, pid)) = stage.fleet.running(number) else {
                unread.clear();
                continue;
            };
            if let Some(files) = open_files(pid) {
                assert!(files < OPEN_FILES_MAX, "{name} has {files} open files");
            }
            let before = std::mem::take(unread);
            for (port, bytes) in unread_of(&sockets, stage.fleet.route(number, 0).port()) {
                let same = before.get(&port).filter(|(before, _)| *before == bytes);
                let since = same.map_or_else(Instant::now, |(_, since)| *since);
                assert!(
                    since.elapsed() < UNREAD_MAX,
                    "I13: {name} leaves {bytes} bytes of the source unread for {UNREAD_MAX:?}"
                );
                unread.insert(port, (bytes, since));
            }
        }
    }
}

fn open_files(pid: u32) -> Option<usize> {
    let program = |of: &str| std::fs::read_link(format!("/proc/{of}/exe")).ok();
    // Until it is the program, a process that was begun just now has what the rig has open.
    if program(&pid.to_string()) == program("self") {
        return None;
    }
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// The sockets that lead to this port and have something to be read: their own ports, and how much it is.
fn unread_of(table: &str, to: u16) -> Vec<(u16, u64)> {
    const ESTABLISHED: &str = "01";
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, own, peer, state, queues, ..] = words[..] else { return None };
        let bytes = u64::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
        (port(peer)? == to && state == ESTABLISHED && bytes > 0).then_some((port(own)?, bytes))
    };
    // Most of its lines are about others.
    let named = format!(":{to:04X} ");
    table.lines().filter(|line| line.contains(&named)).filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::unread_of;

    #[test]
    fn what_lies_unread_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 0100007F:C350 01 00000000:00000400 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   1: 0100007F:1F91 0100007F:C350 01 00000005:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:1F92 0100007F:C351 01 00000000:00000001 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1";
        assert_eq!(unread_of(table, 0xC350), [(0x1F90, 0x400)]);
    }
}
