//! A link without wires: two ends in one process, whole frames between them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use visorbus_core::{Instant, Link};

/// One end of an in-memory link of bounded capacity. Keeps every frame whole and in order.
#[derive(Debug)]
pub struct MemoryLink {
    out: Queue,
    incoming: Queue,
    current: Vec<u8>,
    capacity: usize,
    max_frame: usize,
    plugged: Rc<Cell<bool>>,
}

impl MemoryLink {
    /// Two ends that hold at most `capacity` frames each way, of at most `max_frame` bytes.
    pub fn pair(capacity: usize, max_frame: usize) -> (Self, Self) {
        let (one, other) = (Queue::default(), Queue::default());
        let plugged = Rc::new(Cell::new(true));
        let end = |out: &Queue, incoming: &Queue| Self {
            out: Rc::clone(out),
            incoming: Rc::clone(incoming),
            current: Vec::new(),
            capacity,
            max_frame,
            plugged: Rc::clone(&plugged),
        };
        (end(&one, &other), end(&other, &one))
    }

    /// Pulls the plug: what is on the way is lost and both ends say that the link is gone.
    pub fn unplug(&mut self) {
        self.out.borrow_mut().clear();
        self.incoming.borrow_mut().clear();
        self.plugged.set(false);
    }

    /// Puts it back in.
    pub fn plug(&mut self) {
        self.plugged.set(true);
    }

    /// Frames that have arrived at this end and were not taken.
    pub fn waiting(&self) -> usize {
        self.incoming.borrow().len()
    }

    fn check(&self) -> Result<(), Unplugged> {
        if self.plugged.get() { Ok(()) } else { Err(Unplugged) }
    }
}

impl Link for MemoryLink {
    type Error = Unplugged;

    fn room(&mut self) -> usize {
        if self.out.borrow().len() < self.capacity { self.max_frame } else { 0 }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Unplugged> {
        self.check()?;
        let Some(frame) = self.incoming.borrow_mut().pop_front() else { return Ok(None) };
        self.current = frame;
        Ok(Some(&self.current))
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Unplugged> {
        self.check()?;
        let fits = frame.len() <= self.room();
        if fits {
            self.out.borrow_mut().push_back(frame.to_vec());
        }
        Ok(fits)
    }

    fn flush(&mut self, _now: Instant) -> Result<bool, Unplugged> {
        self.check().map(|()| true)
    }

    fn max_frame(&self) -> usize {
        self.max_frame
    }
}

/// The link is gone, as after a pulled plug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unplugged;

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_and_in_order() {
        let (mut one, mut other) = MemoryLink::pair(4, 8);
        assert_eq!(one.send(b"first"), Ok(true));
        assert_eq!(one.send(b"second"), Ok(true));
        assert_eq!(other.receive(), Ok(Some(&b"first"[..])));
        assert_eq!(other.receive(), Ok(Some(&b"second"[..])));
        assert_eq!(other.receive(), Ok(None));
        assert_eq!(one.receive(), Ok(None));
    }

    #[test]
    fn a_full_link_has_no_room_and_takes_nothing() {
        let (mut one, mut other) = MemoryLink::pair(1, 8);
        assert_eq!(one.send(b"too long!"), Ok(false));
        assert_eq!(one.send(b"full"), Ok(true));
        assert_eq!((one.room(), one.send(b"x")), (0, Ok(false)));
        assert_eq!(other.receive(), Ok(Some(&b"full"[..])));
        assert_eq!(one.room(), 8);
    }

    #[test]
    fn an_unplugged_link_is_gone_for_both_and_forgets_what_was_on_the_way() {
        let (mut one, mut other) = MemoryLink::pair(4, 8);
        one.send(b"lost").unwrap();
        other.unplug();
        assert_eq!((one.send(b"x"), other.receive()), (Err(Unplugged), Err(Unplugged)));
        one.plug();
        assert_eq!(other.receive(), Ok(None));
    }
}
