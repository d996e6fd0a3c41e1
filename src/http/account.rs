//! As what a request comes: whose texts are its own, and how it stands among others that wait.

use std::net::{IpAddr, SocketAddr};

use crate::types::{AccountId, Owner, Share};

/// What is known of a request's sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// Whose key it has; `None`: it came over no connection.
    pub owner: Option<Owner>,
    pub share: Share,
}

/// The account of all requests from `address`. An IPv6 network of 64 bits is one: its hosts choose the rest freely.
pub fn account_of(address: Option<&SocketAddr>) -> AccountId {
    match address.map(|address| address.ip().to_canonical()) {
        None => AccountId(0),
        Some(IpAddr::V4(address)) => AccountId(address.to_bits().into()),
        Some(IpAddr::V6(address)) => AccountId((address.to_bits() >> 64) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_account_and_so_is_a_network_of_ipv6() {
        let of = |text: &str| account_of(Some(&text.parse().expect("an address")));
        assert_eq!(of("10.1.2.3:80"), of("10.1.2.3:81"));
        assert_eq!(of("10.1.2.3:80"), of("[::ffff:10.1.2.3]:80"));
        assert_ne!(of("10.1.2.3:80"), of("10.1.2.4:80"));
        assert_eq!(of("[2001:db8:1:2::3]:80"), of("[2001:db8:1:2:ffff::4]:80"));
        assert_ne!(of("[2001:db8:1:2::3]:80"), of("[2001:db8:1:3::3]:80"));
        assert_eq!(account_of(None), AccountId(0), "a Unix socket has none");
    }
}
