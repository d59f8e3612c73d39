//! A nod of the head that shakes the hand: what one board measures moves the other, by way of a client.

use std::time::{Duration, Instant};

use visorbus_controller::messages::{Buttons, GetInfo, Haptic, Info, Input, Pulse, Shake};
use visorbus_core::bus::SlowConsumer;
use visorbus_hub::{Error, Result};
use visorbus_imu::messages::Sample;
use visorbus_unix::{Delivery, Subscription, UnixSocketClient};

use super::{PATIENCE, show};

/// What came of a nod.
#[derive(Debug)]
pub(super) struct Nod {
    /// From the arrival of the sample that showed it to the controller's word that the pulse runs.
    pub(super) answered: Duration,
    /// What the hand did while it was shaken.
    pub(super) inputs: u32,
    pub(super) changes: u32,
    pub(super) missed: u32,
}

/// Waits for a nod, shakes the hand, and sees that it is shaken for as long as asked, and no longer.
pub(super) fn answer(client: &UnixSocketClient) -> Result<Nod> {
    let inputs = client.subscribe("controller/input", SlowConsumer::default())?;
    let samples = client.subscribe("imu/sample", SlowConsumer::default())?;
    wait_for_nod(&samples)?;
    let nodded = Instant::now();
    let pulse = client.call::<Shake>(&PULSE, None)?;
    let answered = nodded.elapsed();
    drop(samples);
    if info(client)?.pulse != Some(pulse) {
        return Err(Error::Internal("the controller does not say that its pulse runs".to_owned()));
    }
    let nod = watch(&inputs, &pulse, Nod { answered, inputs: 0, changes: 0, missed: 0 })?;
    match info(client)?.pulse {
        None => Ok(nod),
        Some(_) => Err(Error::Internal("the pulse runs for longer than it was asked to".to_owned())),
    }
}

/// What the controller says of itself.
pub(super) fn info(client: &UnixSocketClient) -> Result<Info> {
    client.call::<GetInfo>(&(), None)
}

/// The head goes through the level twice in a nod: then what pulls along it changes its sign.
fn wait_for_nod(samples: &Subscription) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut before: Option<f32> = None;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let Some(Delivery::Message(message)) = samples.recv(Some(left))? else { continue };
        let along = message.payload.parse::<Sample>()?.accel[0];
        if before.is_some_and(|before| (before < 0.0) != (along < 0.0)) {
            return Ok(());
        }
        before = Some(along);
    }
    Err(Error::Timeout(format!("the head did not nod within {}", show(PATIENCE))))
}

/// Counts what the hand does in the time of `pulse`, on the controller's clock.
fn watch(inputs: &Subscription, pulse: &Pulse, mut nod: Nod) -> Result<Nod> {
    let begins_us = pulse.ends_us.saturating_sub(u64::from(PULSE.duration_ms) * 1_000);
    let mut held: Option<Buttons> = None;
    loop {
        match inputs.recv(Some(PATIENCE))? {
            Some(Delivery::Message(message)) => {
                let input: Input = message.payload.parse()?;
                if input.timestamp_us >= pulse.ends_us {
                    return Ok(nod);
                }
                if input.timestamp_us >= begins_us {
                    nod.inputs += 1;
                    nod.changes += u32::from(held.is_some_and(|held| held != input.buttons));
                }
                held = Some(input.buttons);
            }
            Some(Delivery::Missed(count)) => nod.missed += count,
            None => return Err(Error::Timeout(format!("no input came within {}", show(PATIENCE)))),
        }
    }
}

/// How the hand is shaken.
pub(super) const PULSE: Haptic = Haptic { amplitude: 0.6, frequency_hz: 160, duration_ms: 300 };
