//! The smaller form of the frames that a scope has ready: made once for all its sessions, when the first of them comes that takes
//! it, and kept as long as the frame.
//!
//! What it takes is counted with the frames of all scopes together, which give way to it. The bound of the scope's own tail counts
//! the frames alone: their smaller forms are less than as much again.

use std::sync::Arc;

use bytes::Bytes;

use super::{Budget, Content, Item, Scope};
use crate::wire::packed;

/// A frame's smaller form.
#[derive(Debug)]
pub(crate) struct Packed {
    bytes: Bytes,
    _held: Held,
}

/// Bytes of the budget, given back when dropped.
struct Held {
    bytes: usize,
    budget: Arc<Budget>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes)
    }
}

impl Scope {
    /// Has the frames of these items packed, where that is worth it. Sessions that come at the same moment wait for the one that
    /// was first.
    pub(crate) fn pack(&self, items: &[Arc<Item>]) {
        self.pack_by(items, packed::pack);
    }

    fn pack_by(&self, items: &[Arc<Item>], pack: impl Fn(&str) -> Option<Bytes>) {
        for item in items {
            let Content::Frame(frame) = &item.content else { continue };
            item.packed.get_or_init(|| {
                let bytes = pack(frame)?;
                self.budget.take(bytes.len());
                let held = Held { bytes: bytes.len(), budget: self.budget.clone() };
                Some(Packed { bytes, _held: held })
            });
        }
    }
}

impl Item {
    /// The smaller form of the frame that everybody gets who is no author, where it has one.
    pub(crate) fn packed(&self) -> Option<Bytes> {
        self.packed.get()?.as_ref().map(|packed| packed.bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::position;
    use crate::wire::Utf8Bytes;

    fn item(lsn: u64, content: Content) -> Item {
        Item {
            position: position(lsn),
            prev: position(lsn - 1),
            content,
            own: Vec::new(),
            schemas: Vec::new(),
            routed_at: std::time::Instant::now(),
            committed_at_us: 0,
            packed: std::sync::OnceLock::new(),
        }
    }

    fn frame(bytes: usize) -> Content {
        Content::Frame(Utf8Bytes::from("x".repeat(bytes)))
    }

    #[test]
    fn a_frame_is_packed_once_however_many_come_for_it() {
        let budget = Arc::new(Budget::new(usize::MAX));
        let scope = Arc::new(Scope::new(Arc::default(), position(10), 1 << 20, &budget));
        for lsn in 11..31 {
            scope.push(item(lsn, frame(1_000)));
        }
        let packings = AtomicUsize::new(0);
        let pack = |frame: &str| {
            packings.fetch_add(1, Ordering::SeqCst);
            packed::pack(frame)
        };
        let packed_by_one = || {
            let items = scope.read(position(10), 1 << 20).unwrap();
            scope.pack_by(&items, pack);
            items.iter().map(|item| item.packed().unwrap().as_ptr() as usize).collect::<Vec<_>>()
        };
        std::thread::scope(|threads| {
            let sessions: Vec<_> = (0..16).map(|_| threads.spawn(packed_by_one)).collect();
            let of_each: Vec<_> = sessions.into_iter().map(|session| session.join().unwrap()).collect();
            assert!(of_each.windows(2).all(|pair| pair[0] == pair[1]), "all have the same bytes");
        });
        assert_eq!(packings.load(Ordering::SeqCst), 20);
    }

    #[test]
    fn what_is_packed_counts_as_long_as_somebody_has_it() {
        let budget = Arc::new(Budget::new(usize::MAX));
        let scope = Arc::new(Scope::new(Arc::default(), position(10), 1 << 20, &budget));
        scope.push(item(11, frame(1_000)));
        scope.push(item(12, frame(100)));
        scope.push(item(13, Content::Large));
        let plain = budget.taken().0;
        let items = scope.read(position(10), 1 << 20).unwrap();
        assert!(items.iter().all(|item| item.packed().is_none()), "nobody has asked");
        scope.pack(&items);
        let packed: Vec<_> = items.iter().map(|item| item.packed().map(|packed| packed.len())).collect();
        assert!(packed[0].is_some_and(|bytes| bytes < 100) && packed[1..] == [None, None], "{packed:?}");
        assert_eq!(budget.taken().0, plain + packed[0].unwrap());
        scope.cut(position(13));
        assert_eq!(budget.taken().0, packed[0].unwrap(), "a session still has it");
        drop(items);
        assert_eq!(budget.taken().0, 0);
    }

    #[test]
    fn frames_give_way_to_what_is_packed() {
        let budget = Arc::new(Budget::new(100_000));
        let scope = Arc::new(Scope::new(Arc::default(), position(10), 1 << 20, &budget));
        // Packed to nine tenths, all of them.
        let pack = |frame: &str| Some(Bytes::from(vec![0; frame.len() * 9 / 10]));
        for lsn in 11..111 {
            scope.push(item(lsn, frame(1_000)));
            scope.pack_by(&scope.read(position(lsn - 1), 1 << 20).unwrap(), pack);
        }
        let (taken, _) = budget.taken();
        assert!((90_000..100_000 + 2_000).contains(&taken), "{taken}");
        let kept = scope.read(scope.floor(), 1 << 20).unwrap().len();
        assert!((40..60).contains(&kept), "{kept}");
    }
}
