//! How many connections there are of each address, and the place that each of them takes up.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::HashMap;

/// A place among the connections of one address; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Seat(Option<(Seats, IpAddr)>);

impl Seat {
    /// A place that nobody counts.
    pub fn uncounted() -> Self {
        Self::default()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((seats, owner)) = self.0.take() {
            seats.give_back(owner);
        }
    }
}

/// The places that are taken, by address; a network of IPv6 (/64), which one machine may have all to itself, counts as one
/// address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Seats {
    /// A place for `address`; `None` when `most` of its own are taken.
    pub(crate) fn take(&self, address: IpAddr, most: usize) -> Option<Seat> {
        let owner = owner(address);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&owner).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        taken.insert(owner, count + 1);
        drop(taken);
        Some(Seat(Some((self.clone(), owner))))
    }

    fn give_back(&self, owner: IpAddr) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&owner) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&owner)),
        }
    }
}

/// Whose connections are counted together with those of `address`.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back() {
        let (seats, address) = (Seats::default(), "10.0.0.1".parse().unwrap());
        let first = seats.take(address, 2).unwrap();
        let second = seats.take(address, 2).unwrap();
        assert!(seats.take(address, 2).is_none());
        assert!(seats.take("10.0.0.2".parse().unwrap(), 2).is_some());
        drop(first);
        assert!(seats.take(address, 2).is_some());
        drop(second);
        assert!(seats.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_its_own() {
        let seats = Seats::default();
        let take = |address: &str| seats.take(address.parse().unwrap(), 1);
        let _held = (take("2001:db8::1").unwrap(), take("::ffff:10.0.0.1").unwrap());
        assert!(take("2001:db8::ffff:1:2:3").is_none() && take("10.0.0.1").is_none());
        assert!(take("2001:db8:0:1::1").is_some() && take("::ffff:10.0.0.2").is_some());
    }
}
