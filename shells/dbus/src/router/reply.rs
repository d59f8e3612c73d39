//! The reply that a caller waits for.

use std::cell::RefCell;
use std::ffi::CString;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use dbus::strings::{BusName, ErrorName};

use super::address_types::unfit;
use crate::fault::{Fault, INTERNAL};
use crate::step::Step;
use crate::types::{Piece, put};

/// Whom to reply to, and to which call. It outlives the call, which may be long.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    sender: String,
    serial: u32,
    wanted: bool,
}

impl Reply {
    /// The reply to a call from the bus.
    pub(crate) fn to(call: &Message) -> Self {
        Self {
            sender: call.sender().map_or_else(String::new, |name| name.to_string()),
            serial: call.get_serial().unwrap_or(0),
            wanted: !call.get_no_reply(),
        }
    }

    /// Whether the caller waits for it at all.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Sends what was made, or what went wrong.
    pub(crate) fn finish(&self, outcome: Result<Vec<MessageItem>, Fault>) -> Step {
        match outcome {
            Ok(items) => self.send(&items),
            Err(fault) => self.fail(&fault),
        }
    }

    /// Sends what stands elsewhere, or what went wrong.
    pub(crate) fn finish_with(&self, outcome: Result<Piece<'_>, Fault>) -> Step {
        let piece = match outcome {
            Ok(piece) => piece,
            Err(fault) => return self.fail(&fault),
        };
        let reply = self.to_call(|call| {
            let mut message = call.method_return();
            match put(&mut message, &[piece]) {
                Ok(()) => message,
                Err(misfit) => error_to(call, &unfit(misfit)),
            }
        });
        reply.map_or(Step::Done, |reply| Step::Send(vec![reply]))
    }

    /// What is next; a fault is sent.
    pub(crate) fn or_fail(&self, step: Result<Step, Fault>) -> Step {
        step.unwrap_or_else(|fault| self.fail(&fault))
    }

    /// Sends values.
    pub(crate) fn send(&self, items: &[MessageItem]) -> Step {
        self.send_with(items, Vec::new())
    }

    /// Sends values, and `signals` behind them.
    pub(crate) fn send_with(&self, items: &[MessageItem], mut signals: Vec<Message>) -> Step {
        let reply = self.to_call(|call| {
            let mut message = call.method_return();
            match crate::types::append(&mut message, items) {
                Ok(()) => message,
                Err(error) => error_to(call, &Fault::new(INTERNAL, error.to_string())),
            }
        });
        if let Some(reply) = reply {
            signals.insert(0, reply);
        }
        if signals.is_empty() { Step::Done } else { Step::Send(signals) }
    }

    /// Sends an error.
    pub(crate) fn fail(&self, fault: &Fault) -> Step {
        self.to_call(|call| error_to(call, fault)).map_or(Step::Done, |reply| Step::Send(vec![reply]))
    }

    /// Makes a reply of what stands in for the call: libdbus makes replies of calls alone. `None` where none is wanted.
    fn to_call(&self, reply: impl FnOnce(&Message) -> Message) -> Option<Message> {
        if !self.wanted || self.serial == 0 {
            return None;
        }
        let sender = BusName::new(self.sender.as_str()).ok()?;
        STAND_IN.with_borrow_mut(|kept| {
            let mut call = kept.take().or_else(stand_in)?;
            call.set_serial(self.serial);
            let mut reply = reply(&call);
            // It is quicker to add a receiver than to change the sender of what stands in.
            reply.set_destination(Some(sender));
            *kept = Some(call);
            Some(reply)
        })
    }
}

thread_local! {
    /// Stands in for one call after the other: to make one anew takes longer than all else about a reply.
    static STAND_IN: RefCell<Option<Message>> = const { RefCell::new(None) };
}

fn stand_in() -> Option<Message> {
    Message::new_method_call("org.visorbus.Bus1", "/", "org.visorbus.Bus1", "Call").ok()
}

fn error_to(call: &Message, fault: &Fault) -> Message {
    // What the caller has sent may stand in it, and may be long.
    let text: String = fault.text.chars().take(LONGEST_TEXT).collect();
    // A text of C ends at its first zero.
    let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
    call.error(&ErrorName::from(fault.name), &text)
}

/// Characters of an error's text.
const LONGEST_TEXT: usize = 1024;
