//! What a node needs of what it runs on, and how it says so.

use heapless::String;
use visorbus_core::peer::Event;

/// What a node needs of what it runs on.
pub trait Board: 'static {
    /// What it is called.
    const NAME: &'static str;

    /// Microseconds since its start, on the clock that the loop runs by.
    fn now_us(&self) -> u64;

    /// Something happened to the session: switch a lamp, write a line to a log. Must not wait.
    fn on_event(&mut self, event: Event) {
        let _ = event;
    }
}

/// Writes what happened to the session into the log.
#[cfg(feature = "defmt")]
pub fn log_event(event: Event) {
    match event {
        Event::Opened => defmt::info!("the hub has answered"),
        Event::Ready => defmt::info!("the hub takes this device in"),
        Event::Refused => defmt::warn!("the hub refuses this device's key"),
        Event::Closed => defmt::warn!("the session is over"),
        Event::RequestTimedOut { id } => defmt::warn!("request {=u64} was not answered", id),
    }
}

/// As much of `text` as fits.
pub fn fitting<const N: usize>(text: &str) -> String<N> {
    let mut fitting = String::new();
    for character in text.chars() {
        if fitting.push(character).is_err() {
            break;
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(fitting::<8>("mps2"), "mps2");
        assert_eq!(fitting::<4>("mps2-an386"), "mps2");
        assert_eq!(fitting::<4>("abcµ"), "abc", "the last one takes two bytes");
    }
}
