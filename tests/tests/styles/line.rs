//! A line in memory whose UARTs are blocking or asynchronous, and a clock that wakes who waits for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use embedded_io::{ErrorKind, ErrorType};
use visorbus_core::Instant;
use visorbus_hal::Timer;
use visorbus_tests::clock::FakeClock;

/// One direction: bytes on their way, and errors where the receiver meets them.
#[derive(Clone)]
pub(crate) struct Wire(Rc<RefCell<Bytes>>);

struct Bytes {
    queue: VecDeque<Result<u8, ErrorKind>>,
    /// Bytes that fit on it.
    capacity: usize,
    /// The next write fails so, or takes nothing.
    write_result: Option<Result<usize, ErrorKind>>,
    /// Bytes and errors put and taken so far.
    moved: u64,
    waiting: [Option<Waker>; 2],
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Bytes {
            queue: VecDeque::new(),
            capacity: 1_000,
            write_result: None,
            moved: 0,
            waiting: [None, None],
        })))
    }

    /// Bytes that the far end writes, as many as fit.
    pub(crate) fn put(&self, bytes: &[u8]) -> usize {
        let mut wire = self.0.borrow_mut();
        let len = bytes.len().min(wire.capacity.saturating_sub(wire.queue.len()));
        wire.queue.extend(bytes[..len].iter().copied().map(Ok));
        wire.note(len);
        len
    }

    /// An error that the receiver meets behind what is on its way.
    pub(crate) fn put_error(&self, error: ErrorKind) {
        let mut wire = self.0.borrow_mut();
        wire.queue.push_back(Err(error));
        wire.note(1);
    }

    /// How the next write ends.
    pub(crate) fn set_write_result(&self, result: Result<usize, ErrorKind>) {
        let mut wire = self.0.borrow_mut();
        wire.write_result = Some(result);
        wire.note(1);
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        let mut wire = self.0.borrow_mut();
        wire.capacity = capacity;
        wire.note(1);
    }

    pub(crate) fn moved(&self) -> u64 {
        self.0.borrow().moved
    }

    /// Whether [`Wire::take`] has something.
    fn has_input(&self) -> bool {
        !self.0.borrow().queue.is_empty()
    }

    fn has_room(&self) -> bool {
        let wire = self.0.borrow();
        wire.write_result.is_some() || wire.queue.len() < wire.capacity
    }

    pub(crate) fn take(&self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut wire = self.0.borrow_mut();
        if let Some(Err(error)) = wire.queue.front().copied() {
            wire.queue.pop_front();
            wire.note(1);
            return if error == ErrorKind::WriteZero { Ok(0) } else { Err(error) };
        }
        let mut len = 0;
        while len < buffer.len()
            && let Some(Ok(byte)) = wire.queue.front().copied()
        {
            wire.queue.pop_front();
            buffer[len] = byte;
            len += 1;
        }
        wire.note(len);
        Ok(len)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let result = self.0.borrow_mut().write_result.take();
        result.unwrap_or_else(|| Ok(self.put(bytes)))
    }

    fn wait(&self, side: usize, waker: &Waker) {
        self.0.borrow_mut().waiting[side] = Some(waker.clone());
    }
}

impl Bytes {
    fn note(&mut self, moved: usize) {
        self.moved += moved as u64;
        if moved > 0 {
            self.waiting.iter_mut().filter_map(Option::take).for_each(Waker::wake);
        }
    }
}

/// A half of a UART that receives. Asynchronous, it is as bad as the contract allows: what a read has begun to take is
/// lost when that is dropped, and it is told of later than it is there.
pub(crate) struct Rx {
    pub(crate) wire: Wire,
    /// Bytes that a read moves at most.
    pub(crate) step: usize,
    pub(crate) dropped: Rc<Cell<u32>>,
}

/// A half that sends, of the same kind.
pub(crate) struct Tx {
    pub(crate) wire: Wire,
    pub(crate) step: usize,
    pub(crate) dropped: Rc<Cell<u32>>,
}

/// Counts itself when it is dropped before it is done.
struct Begun<'a> {
    dropped: &'a Cell<u32>,
    done: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + u32::from(!self.done));
    }
}

impl ErrorType for Rx {
    type Error = ErrorKind;
}

impl embedded_io_async::Read for Rx {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut begun = Begun { dropped: &self.dropped, done: false };
        poll_fn(|context| {
            self.wire.wait(0, context.waker());
            if self.wire.has_input() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let len = buffer.len().min(self.step);
        let taken = self.wire.take(&mut buffer[..len]);
        a_little_later().await;
        begun.done = true;
        taken
    }
}

impl ErrorType for Tx {
    type Error = ErrorKind;
}

impl embedded_io_async::Write for Tx {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let mut begun = Begun { dropped: &self.dropped, done: false };
        poll_fn(|context| {
            self.wire.wait(1, context.waker());
            if self.wire.has_room() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let written = self.wire.write(&bytes[..bytes.len().min(self.step)]);
        a_little_later().await;
        begun.done = true;
        written
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        panic!("this flush may wait for long");
    }
}

/// Comes back at the next poll.
pub(crate) async fn a_little_later() {
    let mut polled = false;
    poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Both halves as a UART that is asked whether it is ready. It panics where a real one would block.
pub(crate) struct Uart(pub(crate) Rx, pub(crate) Tx);

impl ErrorType for Uart {
    type Error = ErrorKind;
}

impl embedded_io::ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(self.0.wire.has_input())
    }
}

impl embedded_io::WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(self.1.wire.has_room())
    }
}

impl embedded_io::Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        assert!(self.0.wire.has_input(), "this read would block");
        let len = buffer.len().min(self.0.step);
        self.0.wire.take(&mut buffer[..len])
    }
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        assert!(self.1.wire.has_room(), "this write would block");
        self.1.wire.write(&bytes[..bytes.len().min(self.1.step)])
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        panic!("this flush would block");
    }
}

/// The fake clock as an executor's timer; a clone is another handle to it. One waits at a time.
#[derive(Clone)]
pub(crate) struct FakeTimer {
    pub(crate) clock: FakeClock,
    waiting: Rc<RefCell<Option<(Instant, Waker)>>>,
}

impl FakeTimer {
    pub(crate) fn new(clock: FakeClock) -> Self {
        Self { clock, waiting: Rc::default() }
    }

    /// When somebody is to be woken.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.borrow().as_ref().map(|(due, _)| *due)
    }

    /// Wakes who has waited long enough.
    pub(crate) fn ring(&self) {
        if self.due().is_some_and(|due| due <= self.clock.now())
            && let Some((_, waker)) = self.waiting.take()
        {
            waker.wake();
        }
    }
}

impl Timer for FakeTimer {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    async fn wait_until(&mut self, due: Instant) {
        poll_fn(|context| {
            if due <= self.clock.now() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some((due, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
