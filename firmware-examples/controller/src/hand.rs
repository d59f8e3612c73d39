//! What the hand does that holds the controller, as a function of time alone: it presses each button now and then, for
//! a while, and leads the stick around in a circle.
//!
//! Only integers, so the host and the microcontroller come to the same values. The buttons repeat every minute.

use crate::messages::Buttons;

/// The buttons that are down at `t_us` microseconds.
pub fn buttons_at(t_us: u64) -> Buttons {
    let t_us = within_cycle(t_us);
    let down = HABITS.iter().filter(|habit| habit.is_down(t_us));
    Buttons(down.fold(0, |bits, habit| bits | habit.button.0))
}

/// The first moment after `t_us` at which a button goes down or up.
pub fn next_change(t_us: u64) -> u64 {
    let t_in_cycle = within_cycle(t_us);
    let until = HABITS.iter().map(|habit| habit.until_change(t_in_cycle)).min().unwrap_or(CYCLE_US);
    t_us.saturating_add(u64::from(until))
}

/// The stick's deflection to the right and away from the hand.
pub fn stick_at(t_us: u64) -> [i16; 2] {
    let phase = (t_us >> STICK_SHIFT) as u16;
    [wave(phase), wave(phase.wrapping_add(u16::MAX / 4 + 1))]
}

/// A button that is held for a while in each of its periods.
struct Habit {
    button: Buttons,
    /// A divisor of the cycle.
    period_us: u32,
    down_us: u32,
    up_us: u32,
}

impl Habit {
    const fn is_down(&self, t_us: u32) -> bool {
        let t_us = t_us % self.period_us;
        self.down_us <= t_us && t_us < self.up_us
    }

    /// Microseconds until it goes down or up the next time, at least one.
    const fn until_change(&self, t_us: u32) -> u32 {
        let t_us = t_us % self.period_us;
        if t_us < self.down_us {
            self.down_us - t_us
        } else if t_us < self.up_us {
            self.up_us - t_us
        } else {
            self.period_us - t_us + self.down_us
        }
    }
}

fn within_cycle(t_us: u64) -> u32 {
    (t_us % u64::from(CYCLE_US)) as u32
}

/// Parabolas instead of a sine, of ±[`STICK_RANGE`]; 65536 is a whole turn.
fn wave(phase: u16) -> i16 {
    let half = i32::from(phase & 0x7FFF);
    // At most 2^28.
    let arch = (half * (0x8000 - half)) >> 13;
    let height = (arch * i32::from(STICK_RANGE)) >> 15;
    (if phase & 0x8000 == 0 { height } else { -height }) as i16
}

const HABITS: [Habit; 6] = [
    Habit { button: Buttons::TRIGGER, period_us: 1_000_000, down_us: 250_000, up_us: 370_000 },
    Habit { button: Buttons::GRIP, period_us: 3_000_000, down_us: 1_400_000, up_us: 2_300_000 },
    Habit { button: Buttons::A, period_us: 2_000_000, down_us: 603_000, up_us: 683_000 },
    Habit { button: Buttons::B, period_us: 5_000_000, down_us: 4_107_000, up_us: 4_407_000 },
    Habit { button: Buttons::STICK, period_us: 4_000_000, down_us: 3_311_000, up_us: 3_371_000 },
    Habit { button: Buttons::MENU, period_us: 15_000_000, down_us: 12_001_000, up_us: 12_051_000 },
];

/// All periods divide it.
const CYCLE_US: u32 = 60_000_000;

/// A turn of the stick takes 2^16 times 2^6 microseconds, 4.2 seconds.
const STICK_SHIFT: u32 = 6;

/// As far as the stick goes along an axis; the parabolas bulge, and so stay within 32767 in between.
const STICK_RANGE: i16 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_change_only_at_the_moments_that_are_told_before() {
        let (mut t_us, mut changes) = (0, 0);
        while t_us < 2 * u64::from(CYCLE_US) {
            let next = next_change(t_us);
            assert!(next > t_us);
            let held = buttons_at(t_us);
            assert_eq!(buttons_at(t_us + (next - t_us) / 2), held);
            assert_eq!(buttons_at(next - 1), held);
            assert_ne!(buttons_at(next), held, "at {next}");
            t_us = next;
            changes += 1;
        }
        // Each goes down and up once in its period.
        let expected: u32 = HABITS.iter().map(|habit| 4 * (CYCLE_US / habit.period_us)).sum();
        assert!(expected.abs_diff(changes) <= 1, "{changes} of {expected}");
    }

    #[test]
    fn every_button_is_pressed_and_released_within_its_period() {
        for habit in &HABITS {
            assert_eq!(CYCLE_US % habit.period_us, 0);
            assert!(habit.down_us < habit.up_us && habit.up_us < habit.period_us);
            assert!(buttons_at(u64::from(habit.down_us)).contains(habit.button));
            assert!(!buttons_at(u64::from(habit.up_us)).contains(habit.button));
        }
    }

    #[test]
    fn the_stick_goes_round_without_leaving_its_gate() {
        let (mut farthest, mut nearest) = (0, i32::MAX);
        for phase in 0..=u16::MAX {
            let [x, y] = stick_at(u64::from(phase) << STICK_SHIFT).map(i32::from);
            let square = x * x + y * y;
            (farthest, nearest) = (farthest.max(square), nearest.min(square));
        }
        assert!(farthest <= 32_767 * 32_767 && nearest >= 29_000 * 29_000, "{nearest} to {farthest}");
        let quarter = 1 << (14 + STICK_SHIFT);
        assert_eq!([0, 1, 2, 3].map(|quarters| stick_at(quarters * quarter)), CORNERS);
    }

    const CORNERS: [[i16; 2]; 4] = [[0, 30_000], [30_000, 0], [0, -30_000], [-30_000, 0]];

    #[test]
    fn the_end_of_time_is_a_moment_as_well() {
        assert!(next_change(u64::MAX) == u64::MAX && buttons_at(u64::MAX).0 < 64);
        assert_eq!(stick_at(u64::MAX), stick_at((1 << 22) - 1));
    }
}
