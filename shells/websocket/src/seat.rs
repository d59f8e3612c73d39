//! How many connections there are of each address, and the place that each of them takes up.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::HashMap;

/// A place among the connections of one address; given back when it is dropped.
///
/// It is a stranger's until he has authenticated. A stranger who has become a WebSocket may lose it to somebody who comes after
/// him: otherwise whoever shares an address with him, behind a proxy or on one machine, could be shut out by him.
#[derive(Debug, Default)]
pub struct Seat(Option<Taken>);

impl Seat {
    /// A place that nobody counts.
    pub fn uncounted() -> Self {
        Self::default()
    }

    /// The one who has it is a WebSocket over this stream now, on which he is told if he has to go: its input then ends.
    pub(crate) fn open(&self, stream: &Arc<TcpStream>) {
        let Some(taken) = &self.0 else { return };
        if let Some(guest) = taken.seats.lock().of(taken.owner).strangers.get_mut(&taken.number) {
            guest.stream = Some(Arc::downgrade(stream));
        }
    }

    /// The one who has it has authenticated: he keeps it for as long as he likes.
    pub(crate) fn admit(&self) {
        let Some(taken) = &self.0 else { return };
        let mut book = taken.seats.lock();
        let places = book.of(taken.owner);
        if places.strangers.remove(&taken.number).is_some() {
            places.admitted += 1;
        }
    }

    /// Whether it is somebody else's by now.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.as_ref().is_some_and(|taken| taken.is_lost.load(Ordering::Acquire))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(taken) = self.0.take() {
            taken.seats.give_back(&taken);
        }
    }
}

/// The places that are taken, by address; a network of IPv6 (/64), which one machine may have all to itself, counts as one
/// address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seats(Arc<Mutex<Book>>);

impl Seats {
    /// A place for `address`, a stranger's; `None` when `most` of its own are taken.
    pub(crate) fn take(&self, address: IpAddr, most: usize) -> Option<Seat> {
        let owner = owner(address);
        let mut book = self.lock();
        if book.count(owner) >= most {
            return None;
        }
        let is_lost = Arc::new(AtomicBool::new(false));
        let number = book.next;
        book.next += 1;
        book.of(owner).strangers.insert(number, Guest { is_lost: Arc::clone(&is_lost), stream: None });
        drop(book);
        Some(Seat(Some(Taken { seats: self.clone(), owner, number, is_lost })))
    }

    /// How many of `address` are taken.
    pub(crate) fn count(&self, address: IpAddr) -> usize {
        self.lock().count(owner(address))
    }

    /// Has the WebSocket of `address` go that has been there longest without authenticating; `false` when there is none.
    /// Its place is free at once.
    pub(crate) fn displace(&self, address: IpAddr) -> bool {
        let owner = owner(address);
        let mut book = self.lock();
        let Some(places) = book.places.get_mut(&owner) else { return false };
        let number =
            places.strangers.iter().find(|(_, guest)| guest.stream.is_some()).map(|(number, _)| *number);
        let Some(guest) = number.and_then(|number| places.strangers.remove(&number)) else { return false };
        book.forget_if_empty(owner);
        guest.is_lost.store(true, Ordering::Release);
        if let Some(stream) = guest.stream.and_then(|stream| stream.upgrade()) {
            // Whoever waits on it wakes. One that is not connected any more goes by itself.
            let _ = stream.shutdown(Shutdown::Read);
        }
        true
    }

    fn give_back(&self, taken: &Taken) {
        let mut book = self.lock();
        let Some(places) = book.places.get_mut(&taken.owner) else { return };
        if places.strangers.remove(&taken.number).is_none() && !taken.is_lost.load(Ordering::Acquire) {
            places.admitted = places.admitted.saturating_sub(1);
        }
        book.forget_if_empty(taken.owner);
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a [`Seat`] stands for.
#[derive(Debug)]
struct Taken {
    seats: Seats,
    owner: IpAddr,
    number: u64,
    is_lost: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Book {
    places: HashMap<IpAddr, Places>,
    next: u64,
}

impl Book {
    fn count(&self, owner: IpAddr) -> usize {
        self.places.get(&owner).map_or(0, |places| places.admitted + places.strangers.len())
    }

    fn of(&mut self, owner: IpAddr) -> &mut Places {
        self.places.entry(owner).or_default()
    }

    fn forget_if_empty(&mut self, owner: IpAddr) {
        if self.count(owner) == 0 {
            self.places.remove(&owner);
        }
    }
}

/// Those of one address.
#[derive(Debug, Default)]
struct Places {
    admitted: usize,
    /// By number, that is in the order in which they came.
    strangers: BTreeMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    is_lost: Arc<AtomicBool>,
    /// Of one that is a WebSocket.
    stream: Option<Weak<TcpStream>>,
}

/// Whose connections are counted together with those of `address`.
pub(crate) fn owner(address: IpAddr) -> IpAddr {
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
        assert!(seats.lock().places.is_empty());
    }

    #[test]
    fn the_place_of_a_stranger_is_taken_once_and_counted_once() {
        let (seats, address) = (Seats::default(), "10.0.0.1".parse().unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let [known, old, young] = [(); 3].map(|()| seats.take(address, 3).unwrap());
        assert!(!seats.displace(address), "none of them is a WebSocket");
        for seat in [&young, &old, &known] {
            seat.open(&stream);
        }
        known.admit();
        assert!(seats.displace(address) && old.is_lost() && !young.is_lost());
        let newcomer = seats.take(address, 3).unwrap();
        // Too late.
        old.admit();
        drop(old);
        assert_eq!(seats.count(address), 3);
        young.admit();
        assert!(!seats.displace(address), "those who are somebody stay, and the newcomer is no WebSocket");
        drop((known, young, newcomer));
        assert!(seats.lock().places.is_empty());
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
