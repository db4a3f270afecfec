//! How many connections are open, in all and from one address. It is decided before anything is read: a connection that is too many
//! costs nothing but that it was accepted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tokio::sync::Semaphore;

/// Handshakes of one address that are under way at the same time: it alone waits for its own.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 64;

const OPEN: &str = "waldelta_connections";
const REFUSED: &str = "waldelta_connections_refused_total";
const FAILED: &str = "waldelta_accept_failures_total";

/// Says what the numbers are; once there is a recorder.
pub(crate) fn describe_metrics() {
    describe_gauge!(OPEN, Unit::Count, "Open connections of a `listener`, WebSockets among them");
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Connections to a `listener` closed unread, by the `bound` that is reached: too many in `all`, or of one `address`"
    );
    describe_counter!(
        FAILED,
        Unit::Count,
        "Times that the system could not accept a connection of a `listener`"
    );
}

/// Connections at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// In all.
    pub all: usize,
    /// From one address; a trusted proxy is none.
    pub per_address: usize,
}

/// Counts connections.
pub(super) struct Gate {
    /// Which listener's, in the metrics.
    of: &'static str,
    bounds: Bounds,
    open: Mutex<Open>,
    failures: AtomicU64,
}

#[derive(Default)]
struct Open {
    all: usize,
    addresses: HashMap<IpAddr, Neighbours>,
}

/// The connections of one address. There is no entry without one.
struct Neighbours {
    count: usize,
    handshakes: Arc<Semaphore>,
}

/// A connection's place; given back when it is dropped.
pub(super) struct Place {
    gate: Arc<Gate>,
    /// Whose it is; `None`: a trusted proxy's.
    of: Option<(IpAddr, Arc<Semaphore>)>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Address,
}

impl Gate {
    pub(super) fn new(of: &'static str, bounds: Bounds) -> Arc<Self> {
        Arc::new(Gate { of, bounds, open: Mutex::default(), failures: AtomicU64::new(0) })
    }

    /// A place for a connection from this address, or why there is none.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Result<Place, Full> {
        let mut open = self.lock();
        if open.all >= self.bounds.all {
            counter!(REFUSED, "listener" => self.of, "bound" => "all").increment(1);
            return Err(Full::All);
        }
        let of = if is_proxy {
            None
        } else {
            let key = neighbourhood(address);
            let neighbours = open.addresses.entry(key).or_insert_with(Neighbours::nobody);
            if neighbours.count >= self.bounds.per_address {
                counter!(REFUSED, "listener" => self.of, "bound" => "address").increment(1);
                return Err(Full::Address);
            }
            neighbours.count += 1;
            Some((key, neighbours.handshakes.clone()))
        };
        open.all += 1;
        self.show(&open);
        Ok(Place { gate: self.clone(), of })
    }

    /// The system could not accept a connection.
    pub(super) fn not_accepted(&self) {
        counter!(FAILED, "listener" => self.of).increment(1);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self, of: Option<IpAddr>) {
        let mut open = self.lock();
        open.all -= 1;
        self.show(&open);
        let Some(key) = of else { return };
        if let Some(neighbours) = open.addresses.get_mut(&key) {
            neighbours.count -= 1;
            if neighbours.count == 0 {
                open.addresses.remove(&key);
            }
        }
    }

    /// Looked up each time: the first connections may come before there is a recorder.
    fn show(&self, open: &Open) {
        gauge!(OPEN, "listener" => self.of).set(open.all as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing in here panics half-way.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> (usize, usize) {
        let open = self.lock();
        (open.all, open.addresses.len())
    }

    /// Handshakes that an address may still begin.
    #[cfg(test)]
    pub(super) fn turns(&self, address: IpAddr) -> usize {
        let open = self.lock();
        open.addresses
            .get(&address)
            .map_or(HANDSHAKES_PER_ADDRESS_MAX, |of| of.handshakes.available_permits())
    }

    #[cfg(test)]
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Neighbours {
    fn nobody() -> Self {
        Neighbours { count: 0, handshakes: Arc::new(Semaphore::new(HANDSHAKES_PER_ADDRESS_MAX)) }
    }
}

impl Place {
    /// Where handshakes of this address wait for each other.
    pub(super) fn handshakes(&self) -> Option<Arc<Semaphore>> {
        self.of.as_ref().map(|(_, handshakes)| handshakes.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.leave(self.of.as_ref().map(|(key, _)| *key));
    }
}

/// Who counts as one: with IPv6 everybody has as many addresses as they like, in one network of 64 bits.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_leaves_places_for_others_and_gets_its_own_back() {
        let gate = Gate::new("test", Bounds { all: 4, per_address: 2 });
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = gate.enter(one, false).unwrap();
        let second = gate.enter(one, false).unwrap();
        assert_eq!(gate.enter(one, false).err(), Some(Full::Address));
        let third = gate.enter(other, false).unwrap();
        drop(first);
        let again = gate.enter(one, false).unwrap();
        let proxy = gate.enter(one, true).unwrap();
        assert_eq!(gate.enter(address("192.0.2.3"), false).err(), Some(Full::All));
        assert_eq!(gate.open(), (4, 2));
        drop((second, third, again, proxy));
        assert_eq!(gate.open(), (0, 0), "nothing is kept of who was here");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        for (address_of_one, is_as) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(neighbourhood(address(address_of_one)), address(is_as), "{address_of_one}");
        }
    }
}
