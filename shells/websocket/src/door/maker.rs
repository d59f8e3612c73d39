//! The threads on which live pages are made, one for each page, and the way back to whoever waits for one.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use zeroize::Zeroizing;

use crate::HashMap;
use crate::door::request::Request;
use crate::live::{LivePages, Make, PageAnswer, PageRequest};

/// Has live pages made. Dropping it has its threads end once they have made what they are at.
pub(crate) struct Maker {
    pages: LivePages,
    /// Where to send orders for a page that somebody has asked for.
    threads: HashMap<String, SyncSender<(u64, Order)>>,
    done: Arc<Done>,
}

/// One request for a page.
pub(crate) struct Order {
    /// The whole head, which was read before. There may be a token in it.
    pub(crate) head: Zeroizing<Vec<u8>>,
    pub(crate) peer: SocketAddr,
    pub(crate) is_tls: bool,
}

/// What is made, by the number of whoever waits for it, and what tells of it.
pub(crate) struct Done {
    made: Mutex<Vec<(u64, PageAnswer)>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Done {
    fn put(&self, id: u64, answer: PageAnswer) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push((id, answer));
        (self.wake)();
    }
}

impl Maker {
    /// Makes `pages`, and calls `wake` from another thread when one is made.
    pub(crate) fn new(pages: LivePages, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let done = Done { made: Mutex::default(), wake: Box::new(wake) };
        Self { pages, threads: HashMap::default(), done: Arc::new(done) }
    }

    /// Has the page at `path` made for `id`; `false` when too many wait for it, or no thread is to be had.
    pub(crate) fn order(&mut self, id: u64, path: &str, order: Order) -> bool {
        let Some(make) = self.pages.at(path) else { return false };
        let thread = match self.threads.get(path) {
            Some(thread) => thread,
            None => match start(Arc::clone(make), Arc::clone(&self.done)) {
                Ok(thread) => self.threads.entry(path.to_owned()).or_insert(thread),
                Err(error) => {
                    tracing::error!("no thread for the page '{path}': {error}");
                    return false;
                }
            },
        };
        match thread.try_send((id, order)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// What was made since this was last asked.
    pub(crate) fn take(&self) -> Vec<(u64, PageAnswer)> {
        std::mem::take(&mut *self.done.made.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the thread of a page.
fn start(make: Make, done: Arc<Done>) -> std::io::Result<SyncSender<(u64, Order)>> {
    let (sender, orders) = sync_channel(MOST_WAITING);
    thread::Builder::new().name("visorbus-page".to_owned()).spawn(move || run(&make, &orders, &done))?;
    Ok(sender)
}

fn run(make: &Make, orders: &Receiver<(u64, Order)>, done: &Done) {
    while let Ok((id, order)) = orders.recv() {
        let made = catch_unwind(AssertUnwindSafe(|| order.make(make)));
        done.put(id, made.unwrap_or_else(|_| failed()));
    }
}

impl Order {
    fn make(&self, make: &Make) -> PageAnswer {
        let Ok(request) = Request::parse(&self.head) else { return failed() };
        let bearer = request.value("Authorization").and_then(bearer);
        let Self { peer, is_tls, .. } = *self;
        make(&PageRequest { path: request.path, query: request.query, bearer, peer, is_tls })
    }
}

/// The token in an `Authorization` (RFC 6750 section 2.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let plain = token.trim_end_matches('=');
    let is_token = !plain.is_empty() && plain.bytes().all(is_plain);
    (scheme.eq_ignore_ascii_case("Bearer") && is_token).then_some(token)
}

fn failed() -> PageAnswer {
    PageAnswer::failed("this page could not be made; the server's log says why")
}

/// Requests that wait for one page beside the one that is being made.
const MOST_WAITING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_nothing_else_is_one() {
        for (value, token) in
            [("Bearer vb1.AQID-_", "vb1.AQID-_"), ("bearer a", "a"), ("BEARER  a+b/c==", "a+b/c==")]
        {
            assert_eq!(bearer(value), Some(token), "{value}");
        }
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer =",
            "Bearer a b",
            "Bearer a,b",
            "Bearer a=b",
            "Bearer \"a\"",
            "Bearer a\u{e4}",
            "Basic YTpi",
            "Bearera",
            "a",
            "Token a",
            "Bearer\ta",
        ] {
            assert_eq!(bearer(value), None, "{value}");
        }
    }
}
