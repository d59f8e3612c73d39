//! What goes to the handlers in the hub: in its own loop, or on the pool for those that may block.

use visorbus_core::Instant;
use visorbus_core::auth::{Access, BUS, Grant};
use visorbus_core::bus::RowKind;
use visorbus_core::dispatch::NOBODY;
use visorbus_core::message::{Address, MessageType};

use crate::calls::{CallKey, Callee};
use crate::deliver::{owned, too_long_header};
use crate::expand::with_plain;
use crate::gate::{Gate, OwnedGate};
use crate::handlers::Pool;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::owned::{Error, OwnedPayload, Result};
use crate::sending::{Head, too_long_answer};
use crate::tally::Count;

impl Hub {
    pub(crate) fn call_handler(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>) -> Result<()> {
        let held = self.check_handlers_types(incoming, own)?;
        let incoming = &match &held {
            None => *incoming,
            Some(plain) => Incoming { message: with_plain(&incoming.message, plain), ..*incoming },
        };
        let Incoming { from, ref message, at_once, now } = *incoming;
        let component = message.destination.map_or(BUS, Address::component);
        let unix_s = self.unix_s(now);
        if self.registry.may_block(component) {
            return self.call_on_pool(incoming, own, unix_s);
        }
        let gate = Gate::new(&*self.config.policy, &self.peers, from, own, unix_s);
        let ran = self.registry.run(&gate, message, &mut self.out);
        for denied in ran.denied {
            self.deny(from, denied);
        }
        let dispatched = ran.outcome.map_err(|denied| self.deny(from, denied))?;
        if let Some(error) = &dispatched.refused {
            self.peers.refuse(from, error.kind());
        }
        self.tally.handlers.note(now, self.now());
        if dispatched.refused != Some(NOBODY) {
            self.count(message);
        }
        if self.has_json(from) {
            return self.send_translated(incoming, dispatched.answer);
        }
        self.send_answer(from, message, dispatched.answer, at_once);
        Ok(())
    }

    /// Sends the answer in [`Hub::out`] to a peer that has no postcard.
    fn send_translated(&mut self, incoming: &Incoming<'_>, len: usize) -> Result<()> {
        let Incoming { from, ref message, at_once, .. } = *incoming;
        let address = message.destination.unwrap_or(BUS_ADDRESS);
        let out = std::mem::take(&mut self.out);
        let translated = self.translate_answer(from, address, &out[..len]);
        self.out = out;
        let Some(answer) = translated? else {
            self.send_answer(from, message, len, at_once);
            return Ok(());
        };
        let max = self.peers.max_frame(from).min(self.out.len());
        if answer.len() > max {
            return Err(too_long_answer(answer.len(), max));
        }
        self.out[..answer.len()].copy_from_slice(&answer);
        self.send_answer(from, message, answer.len(), at_once);
        Ok(())
    }

    /// The payload in the form that a handler takes, where it is not. The types of an address in the hub are told to nobody
    /// who may not use it.
    fn check_handlers_types(
        &mut self,
        incoming: &Incoming<'_>,
        own: Option<&Grant>,
    ) -> Result<Option<OwnedPayload>> {
        let offered = match incoming.message.message_type {
            MessageType::Request => RowKind::Endpoint,
            _ => RowKind::Hears,
        };
        let checked = self.check_types(incoming, offered);
        let held = checked.and_then(|()| self.payload_for_handler(&incoming.message, incoming.from));
        let Err(error) = held else { return held };
        let row = self.row_of(incoming.message.destination.unwrap_or(BUS_ADDRESS), offered);
        let access = row.map_or(Access::Permission, |row| row.access.borrow());
        let asked = self.gate(incoming, own).ask_for(&incoming.message, access);
        Err(asked.err().map_or(error, |denied| self.deny(incoming.from, denied)))
    }

    fn call_on_pool(&mut self, incoming: &Incoming<'_>, own: Option<&Grant>, unix_s: u64) -> Result<()> {
        let Incoming { from, message, .. } = *incoming;
        let head = Head::new(&message).ok_or_else(too_long_header)?;
        let frame = [head.as_slice(), message.payload.as_bytes()].concat().into();
        let gate = Gate::new(&*self.config.policy, &self.peers, from, own, unix_s);
        let gate = OwnedGate::new(&self.config.policy, &gate);
        let component = message.destination.map_or(BUS, Address::component);
        self.run_on_pool((from, message.id), component, gate, frame, |hub, callee| {
            match message.wants_answer() {
                true => hub.begin_call(incoming, callee),
                false => Ok(()),
            }
        })
    }

    /// Has the handler of `component` run for the message in `frame`, by the call that `begin` notes.
    pub(crate) fn run_on_pool(
        &mut self,
        key: CallKey,
        component: &str,
        gate: OwnedGate,
        frame: Box<[u8]>,
        begin: impl FnOnce(&mut Self, Callee) -> Result<()>,
    ) -> Result<()> {
        let job = self.registry.job(component, gate, frame).ok_or_else(|| owned(NOBODY))?;
        let callee = Callee::Job(self.pool()?.next_number());
        begin(self, callee)?;
        let limit = self.config.limits.queue_bytes;
        self.pool()?.start(key, job, limit).map_err(|full| {
            self.end_call(key, callee);
            let waiting = full.waiting;
            Error::Message(format!(
                "'{component}' does not keep up: {waiting} bytes wait for it, try again later"
            ))
        })
    }

    /// Answers the calls whose handlers on the pool are done.
    pub(crate) fn take_jobs(&mut self, now: Instant) {
        while let Some(done) = self.pool.as_mut().and_then(Pool::take_done) {
            let call = self.end_call(done.key, Callee::Job(done.number));
            for denied in done.denied {
                self.deny(done.key.0, denied);
            }
            if let Some((address, len)) = &done.served {
                self.tally.addresses.note(address.as_address(), Count::message(*len));
            }
            let refused = done.refused.map(|refused| self.deny(done.key.0, refused));
            if let Some(kind) = refused.as_ref().map(Error::kind).or(done.failed) {
                self.peers.refuse(done.key.0, kind);
            }
            if let (Some(call), None) = (&call, &refused) {
                self.tally.handlers.note(call.began, now);
            }
            match (call, refused) {
                (Some(call), Some(error)) => self.fail_call(done.key, &call, &error),
                (Some(call), None) => self.answer_call(done.key, &call, &done.answer),
                (None, _) => {}
            }
        }
    }

    /// The threads for handlers that may block; made when first needed.
    fn pool(&mut self) -> Result<&mut Pool> {
        let pool = match self.pool.take() {
            Some(pool) => pool,
            None => {
                let max_frame = self.config.limits.max_frame as usize;
                let pool = Pool::new(self.config.limits.pool_threads, max_frame, self.handle.waker());
                pool.map_err(|e| Error::Internal(format!("no thread for a blocking handler: {e}")))?
            }
        };
        Ok(self.pool.insert(pool))
    }
}
