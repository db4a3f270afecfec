//! Whom a request comes from, where it comes through a proxy: `X-Forwarded-For` and `X-Forwarded-Proto` are believed of the proxies
//! that the configuration names, and of nobody else. `Forwarded` (RFC 7239) is not read.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use waldelta_fanout::Peer;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// So many proxies one behind the other at most; what is said beyond them is not looked at.
const HOPS_MAX: usize = 32;

/// Addresses that begin with the same bits, such as `10.0.0.0/8`; a single address is a network too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

/// The proxies that are believed.
#[derive(Clone, Debug)]
pub(crate) struct Proxies(Arc<[Network]>);

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither an address nor a network such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        let network = Network { address, bits };
        if bits > most || address.to_canonical() != address || !network.is_clean() {
            return Err(wrong());
        }
        Ok(network)
    }
}

impl Network {
    /// Whether nothing is said beyond the bits that count: 10.0.0.1/8 is a mistake for one of two things.
    fn is_clean(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.to_bits().checked_shl(self.bits.into()).unwrap_or(0) == 0,
            IpAddr::V6(address) => address.to_bits().checked_shl(self.bits.into()).unwrap_or(0) == 0,
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Proxies {
    pub(crate) fn new(networks: Vec<Network>) -> Self {
        Proxies(networks.into())
    }

    /// Whether what comes from this address is believed.
    pub(super) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Who sent a request with these headers over a connection from `address`.
    pub(super) fn peer(&self, address: IpAddr, encrypted: bool, headers: &HeaderMap) -> Peer {
        let address = address.to_canonical();
        if !self.trust(address) {
            return Peer { address, secure: encrypted };
        }
        let secure = match elements(headers, FORWARDED_PROTO).next() {
            None => encrypted,
            // What the proxy next to here says; what is said before it may be anybody's.
            Some(scheme) => scheme.is_some_and(|scheme| {
                ["https", "wss"].iter().any(|secure| scheme.eq_ignore_ascii_case(secure))
            }),
        };
        Peer { address: self.first_untrusted(address, headers), secure }
    }

    /// Each proxy appends who it got the request from. The last of them that is no proxy of ours is the client; everything before
    /// it is what the client says. Where what a proxy of ours says is no address, that proxy is all that is known.
    fn first_untrusted(&self, from: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut known = from;
        for element in elements(headers, FORWARDED_FOR).take(HOPS_MAX) {
            let Some(address) = element.and_then(address_of) else { break };
            known = address;
            if !self.trust(address) {
                break;
            }
        }
        known
    }
}

/// The elements of all headers of this name, the last first; `None` for what is no text.
fn elements<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = Option<&'a str>> {
    let mut values: Vec<_> = headers.get_all(name).iter().collect();
    values.reverse();
    values.into_iter().flat_map(|value| value.to_str().unwrap_or("\0").rsplit(',')).map(|element| {
        match element {
            "\0" => None,
            text => Some(text.trim()),
        }
    })
}

/// Some proxies say the port too.
fn address_of(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    Some(address.ok().or_else(bracketed)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(
        trusted: &[&str],
        from: &str,
        encrypted: bool,
        headers: &[(&'static str, &str)],
    ) -> (String, bool) {
        let networks = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer = Proxies::new(networks).peer(from.parse().unwrap(), encrypted, &map);
        (peer.address.to_string(), peer.secure)
    }

    #[test]
    fn what_others_than_a_trusted_proxy_say_is_ignored() {
        let forged = [(FORWARDED_FOR, "198.51.100.7"), (FORWARDED_PROTO, "https")];
        assert_eq!(peer(&[], "127.0.0.1", false, &forged), ("127.0.0.1".to_owned(), false));
        assert_eq!(
            peer(&["10.0.0.0/8"], "192.0.2.1", true, &[(FORWARDED_PROTO, "http")]),
            ("192.0.2.1".to_owned(), true)
        );
    }

    #[test]
    fn the_client_is_the_last_whom_no_trusted_proxy_is() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"];
        for (said, client) in [
            (vec!["198.51.100.7"], "198.51.100.7"),
            (vec!["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (vec!["203.0.113.9, 198.51.100.7, 10.1.2.3, 2001:db8::5"], "198.51.100.7"),
            (vec!["203.0.113.9", "198.51.100.7", "10.1.2.3"], "198.51.100.7"),
            (vec!["198.51.100.7:4711"], "198.51.100.7"),
            (vec!["[2001:470::1]:4711"], "2001:470::1"),
            (vec!["[2001:470::1]"], "2001:470::1"),
            (vec!["::ffff:198.51.100.7"], "198.51.100.7"),
            (vec!["10.4.4.4, 10.5.5.5"], "10.4.4.4"),
            (vec!["198.51.100.7, unknown"], "10.9.9.9"),
            (vec!["198.51.100.7, unknown, 10.1.1.1"], "10.1.1.1"),
            (vec!["198.51.100.7,"], "10.9.9.9"),
            (vec![""], "10.9.9.9"),
            (vec![], "10.9.9.9"),
        ] {
            let headers: Vec<_> = said.iter().map(|value| (FORWARDED_FOR, *value)).collect();
            assert_eq!(peer(&trusted, "10.9.9.9", false, &headers).0, client, "{said:?}");
        }
        let many = vec!["10.0.0.1"; 100_000].join(",");
        assert_eq!(peer(&trusted, "10.9.9.9", false, &[(FORWARDED_FOR, &many)]).0, "10.0.0.1");
    }

    #[test]
    fn whether_it_is_encrypted_is_said_by_the_nearest_proxy() {
        let proto = |value| [(FORWARDED_PROTO, value)];
        for (encrypted, said, secure) in [
            (false, "https", true),
            (false, "WSS", true),
            (true, "http", false),
            (false, "https, http", false),
            (false, "http, https", true),
            (true, "", false),
        ] {
            assert_eq!(peer(&["10.0.0.1"], "10.0.0.1", encrypted, &proto(said)).1, secure, "{said}");
        }
        assert!(peer(&["10.0.0.1"], "10.0.0.1", true, &[]).1);
    }

    #[test]
    fn a_network_is_an_address_with_a_number_of_bits_or_refused() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "203.0.113.1"),
            ("::1", "::1", "::2"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{text}");
            assert!(!network.contains(outside.parse().unwrap()), "{text}");
            assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "proxy",
            "10.0.0.0/-1",
            "::ffff:10.0.0.1",
            "::1/129",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
