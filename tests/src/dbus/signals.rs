//! One publisher on a Unix socket and many subscribers on a bus: a batch of notifications goes in, and every one of them
//! comes out as a signal at every subscriber. What is measured as a round trip is one batch.

use std::io;
use std::time::Instant;

use dbus::Message;
use dbus::channel::Channel;
use dbus::message::MessageType;

use crate::contest::{RoundTrip, Score};
use crate::dbus::caller::{PATIENCE, connect, other};
use crate::through_hub::binary;

/// Publishes `batch` messages with `publish`, one by one, and waits until all `receivers` have them; keeps `parts` while
/// it lives.
pub(crate) fn signals_trip<P: 'static>(
    mut publish: impl FnMut(&[u8]) -> io::Result<()> + 'static,
    mut receivers: Receivers,
    batch: usize,
    parts: P,
) -> io::Result<RoundTrip> {
    let bytes = binary(MESSAGE_LEN);
    Ok(Box::new(move || {
        let _alive = &parts;
        (0..batch).try_for_each(|_| publish(&bytes))?;
        receivers.take(batch)
    }))
}

/// Deliveries per second of a score in batches of [`Score::size`] messages.
pub fn deliveries(score: &Score) -> f64 {
    (SUBSCRIBERS * score.size) as f64 / score.trips.p50.as_secs_f64()
}

/// The subscribers.
#[derive(Debug)]
pub(crate) struct Receivers {
    channels: Vec<Channel>,
    interface: &'static str,
    member: &'static str,
}

impl Receivers {
    /// Connects them, each of which asks for the signal `member` of `interface` with `subscribe`.
    pub(crate) fn connect(
        bus: &str,
        interface: &'static str,
        member: &'static str,
        subscribe: impl Fn(&Channel) -> io::Result<()>,
    ) -> io::Result<Self> {
        let join = |_| {
            let channel = connect(bus)?;
            subscribe(&channel)?;
            Ok(channel)
        };
        let channels = (0..SUBSCRIBERS).map(join).collect::<io::Result<_>>()?;
        Ok(Self { channels, interface, member })
    }

    /// Waits until every one of them has got `count` signals since it was last asked.
    fn take(&mut self, count: usize) -> io::Result<()> {
        self.channels.iter().try_for_each(|channel| self.take_of(channel, count))
    }

    fn take_of(&self, channel: &Channel, count: usize) -> io::Result<()> {
        let (mut missing, end) = (count, Instant::now() + PATIENCE);
        while missing > 0 {
            match channel.blocking_pop_message(PATIENCE).map_err(other)? {
                Some(message) => missing -= usize::from(self.is_expected(&message)),
                None if Instant::now() > end => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("{missing} signals do not come"),
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn is_expected(&self, message: &Message) -> bool {
        message.msg_type() == MessageType::Signal
            && message.member().is_some_and(|member| &*member == self.member)
            && message.interface().is_some_and(|interface| &*interface == self.interface)
    }
}

/// How many subscribers there are.
pub const SUBSCRIBERS: usize = 8;
/// Bytes of the payload of one notification.
pub const MESSAGE_LEN: usize = 64;
