//! The thread against a walsender that does what a test says, over a real socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use tokio::sync::mpsc::Receiver;
use waldelta_wal::{EndLsn, Lsn};

use super::*;

const TIMING: Timing = Timing {
    report_interval: Duration::from_millis(50),
    silence_max: Duration::from_secs(20),
    stall_max: Duration::from_secs(20),
};

/// The server's end of the socket, and what the loop behind the thread would hold.
struct Scene {
    server: UnixStream,
    link: Arc<Link>,
    progress: Arc<AtomicU64>,
    blocks: Receiver<Bytes>,
    thread: thread::JoinHandle<Result<(), Error>>,
}

/// One status update.
#[derive(Debug, PartialEq)]
struct Report {
    written: u64,
    flushed: u64,
    applied: u64,
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    message
}

fn keepalive(end: u64, reply_requested: bool) -> Vec<u8> {
    let mut body = vec![b'k'];
    body.extend(end.to_be_bytes());
    body.extend([0; 8]);
    body.push(reply_requested.into());
    body
}

impl Scene {
    fn begin(timing: Timing, blocks_max: usize) -> Self {
        let (server, client) = UnixStream::pair().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let copy = CopyBoth {
            socket: Socket::Unix(client),
            incoming: FrameBuffer::new(1 << 16),
            first: Bytes::new(),
        };
        let link = Arc::new(Link::new(EndLsn(Lsn(100))));
        let (sender, blocks) = mpsc::channel(blocks_max);
        let progress = Arc::new(AtomicU64::new(0));
        let reader = Reader::new(copy, timing, link.clone(), sender, progress.clone());
        let thread = thread::spawn(move || reader.run());
        Scene { server, link, progress, blocks, thread }
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.server.write_all(&message(kind, body)).unwrap();
    }

    fn keepalive(&mut self, end: u64, reply_requested: bool) {
        self.say(b'd', &keepalive(end, reply_requested));
    }

    /// The next message of the client.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 5];
        self.server.read_exact(&mut header).unwrap();
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        self.server.read_exact(&mut body).unwrap();
        (header[0], body)
    }

    fn report(&mut self) -> Report {
        let (kind, body) = self.hear();
        assert_eq!((kind, body[0], body.len()), (b'd', b'r', 34));
        let word = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().unwrap());
        Report { written: word(1), flushed: word(9), applied: word(17) }
    }

    /// What it ends with when the server is gone and all that came was taken.
    fn outcome(mut self) -> Result<(), Error> {
        drop(self.server);
        while self.blocks.blocking_recv().is_some() {}
        self.thread.join().unwrap()
    }
}

fn patient() -> Timing {
    Timing { report_interval: Duration::from_secs(3600), ..TIMING }
}

#[test]
fn it_reports_at_once_and_then_on_its_timer_nothing_but_what_is_durable() {
    let mut scene = Scene::begin(TIMING, 4);
    let begun = Instant::now();
    scene.link.set_received(EndLsn(Lsn(900)));
    for _ in 0..3 {
        let report = scene.report();
        assert_eq!((report.flushed, report.applied), (100, 100));
        assert!(report.written == 100 || report.written == 900);
    }
    assert!(begun.elapsed() >= TIMING.report_interval * 2);
    scene.link.set_durable(EndLsn(Lsn(300)));
    while scene.report().flushed != 300 {}
    scene.outcome().unwrap_err();
}

#[test]
fn a_durable_end_that_moved_is_reported_soon() {
    let mut scene = Scene::begin(patient(), 4);
    scene.report();
    scene.link.set_durable(EndLsn(Lsn(300)));
    assert_eq!(scene.report(), Report { written: 300, flushed: 300, applied: 300 });
    scene.outcome().unwrap_err();
}

#[test]
fn a_keepalive_that_asks_is_answered_at_once() {
    let mut scene = Scene::begin(patient(), 4);
    scene.report();
    scene.keepalive(500, false);
    scene.keepalive(500, true);
    assert_eq!(scene.report().flushed, 100, "not what the keepalive says");
    let block = scene.blocks.blocking_recv().unwrap();
    assert!(!block.is_empty(), "keepalives go to the loop as well");
    scene.outcome().unwrap_err();
}

#[test]
fn feedback_goes_on_while_nobody_takes_what_was_read() {
    let mut scene = Scene::begin(TIMING, 1);
    for _ in 0..3 {
        scene.say(b'd', b"w no matter");
        scene.report();
    }
    for _ in 0..5 {
        assert_eq!(scene.report().flushed, 100);
    }
    // Nothing was lost meanwhile.
    let mut bytes = 0;
    while bytes < 3 * (5 + 11) {
        bytes += scene.blocks.blocking_recv().unwrap().len();
    }
    scene.outcome().unwrap_err();
}

#[test]
fn a_standstill_ends_the_connection_and_progress_does_not() {
    let timing = Timing { stall_max: Duration::from_millis(200), ..TIMING };
    let mut scene = Scene::begin(timing, 1);
    let begun = Instant::now();
    for _ in 0..4 {
        scene.say(b'd', b"w no matter");
        scene.report();
    }
    while begun.elapsed() < timing.stall_max * 3 {
        scene.progress.fetch_add(1, Ordering::Relaxed);
        scene.report();
    }
    assert!(!scene.thread.is_finished());
    let stalled = scene.thread.join().unwrap();
    assert!(matches!(stalled, Err(Error::Stalled { .. })), "{stalled:?}");
}

#[test]
fn a_silent_walsender_is_asked_and_then_given_up() {
    let timing = Timing { silence_max: Duration::from_millis(300), ..TIMING };
    let mut scene = Scene::begin(timing, 1);
    let asked = loop {
        let (_, body) = scene.hear();
        if body[33] == 1 {
            break Instant::now();
        }
    };
    let silent = scene.thread.join().unwrap();
    assert!(matches!(silent, Err(Error::Silent { .. })), "{silent:?}");
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_missing_publication_is_known_by_error_and_by_warning() {
    for (kind, fields, missing) in [
        (b'E', &b"VERROR\0C42704\0Mx\0\0"[..], true),
        (b'N', b"VWARNING\0C55000\0Mx\0\0", true),
        (b'E', b"VFATAL\0C57P01\0Mx\0\0", false),
    ] {
        let mut scene = Scene::begin(TIMING, 4);
        scene.say(b'd', b"w before");
        scene.say(kind, fields);
        // What came before the end is still handed on.
        assert!(scene.blocks.blocking_recv().is_some());
        while scene.blocks.blocking_recv().is_some() {}
        let outcome = scene.thread.join().unwrap().unwrap_err();
        assert_eq!(matches!(outcome, Error::Publication(_)), missing, "{outcome:?}");
        assert_eq!(outcome.is_retryable(), !missing);
    }
}

#[test]
fn nothing_behind_a_warning_of_a_missing_publication_is_handed_on() {
    let mut scene = Scene::begin(TIMING, 4);
    let mut block = message(b'd', b"w before");
    block.extend(message(b'N', b"VWARNING\0C55000\0Mx\0\0"));
    block.extend(message(b'd', &keepalive(900, false)));
    scene.server.write_all(&block).unwrap();
    let mut handed = Vec::new();
    while let Some(block) = scene.blocks.blocking_recv() {
        handed.extend_from_slice(&block);
    }
    assert_eq!(handed, message(b'd', b"w before"));
    assert!(matches!(scene.thread.join().unwrap(), Err(Error::Publication(_))));
}

#[test]
fn garbage_and_a_cut_are_errors() {
    let mut scene = Scene::begin(TIMING, 4);
    scene.server.write_all(&[b'd', 0xff, 0xff, 0xff, 0xff, 0]).unwrap();
    let garbage = scene.thread.join().unwrap();
    assert!(matches!(garbage, Err(Error::Frame(_))), "{garbage:?}");

    let mut scene = Scene::begin(TIMING, 4);
    scene.server.write_all(&[b'd', 0, 0]).unwrap();
    let cut = scene.outcome();
    assert!(matches!(cut, Err(Error::Closed | Error::Io { .. })), "{cut:?}");
}

#[test]
fn finishing_reports_once_more_and_ends_properly() {
    let mut scene = Scene::begin(patient(), 4);
    scene.report();
    scene.link.set_durable(EndLsn(Lsn(700)));
    scene.link.set_demand(Demand::Finish);
    let mut last = scene.report();
    let (kind, _) = loop {
        let message = scene.hear();
        match message.0 {
            b'd' => {
                last = Report { flushed: u64::from_be_bytes(message.1[9..17].try_into().unwrap()), ..last }
            }
            _ => break message,
        }
    };
    assert_eq!((last.flushed, kind), (700, b'c'));
    scene.say(b'd', b"w still on its way");
    scene.say(b'c', b"");
    scene.say(b'C', b"COPY 0\0");
    scene.say(b'Z', b"I");
    assert_eq!(scene.hear().0, b'X');
    scene.outcome().unwrap();
}
