//! The battery: what is left after a time of use, of which the motor takes its share.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// How full the battery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Battery {
    /// What is left of its charge.
    pub percent: u8,
    /// Its voltage in mV.
    pub millivolts: u16,
    /// For how long it lasts with the motor at rest.
    pub minutes_left: u16,
}

impl Battery {
    /// What is left of a full one after `uptime_us`, of which the motor ran `motor_us` at full strength.
    pub fn after(uptime_us: u64, motor_us: u64) -> Self {
        let used_s = uptime_us.saturating_add(motor_us.saturating_mul(MOTOR)) / 1_000_000;
        let left_s = CAPACITY_S.saturating_sub(u32::try_from(used_s).unwrap_or(u32::MAX));
        Self {
            percent: (left_s * 100).div_ceil(CAPACITY_S) as u8,
            millivolts: EMPTY_MV + (left_s * (FULL_MV - EMPTY_MV) as u32 / CAPACITY_S) as u16,
            minutes_left: (left_s / 60) as u16,
        }
    }
}

/// How long a full one lasts with the motor at rest: eight hours.
const CAPACITY_S: u32 = 8 * 3_600;

/// The motor at full strength takes this many times as much as all the rest.
const MOTOR: u64 = 20;

const FULL_MV: u16 = 4_200;
const EMPTY_MV: u16 = 3_300;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: u64 = 3_600_000_000;

    #[test]
    fn it_lasts_eight_hours_at_rest() {
        let full = Battery { percent: 100, millivolts: 4_200, minutes_left: 480 };
        assert_eq!(Battery::after(0, 0), full);
        let half = Battery { percent: 50, millivolts: 3_750, minutes_left: 240 };
        assert_eq!(Battery::after(4 * HOUR_US, 0), half);
        assert_eq!(Battery::after(8 * HOUR_US - 1_000_000, 0).percent, 1, "not empty yet");
    }

    #[test]
    fn the_motor_costs_twenty_times_as_much() {
        assert_eq!(Battery::after(HOUR_US, HOUR_US / 10), Battery::after(3 * HOUR_US, 0));
    }

    #[test]
    fn it_is_empty_for_ever_after() {
        let empty = Battery { percent: 0, millivolts: 3_300, minutes_left: 0 };
        for (uptime_us, motor_us) in [(8 * HOUR_US, 0), (0, HOUR_US), (u64::MAX, 0), (0, u64::MAX)] {
            assert_eq!(Battery::after(uptime_us, motor_us), empty);
        }
    }
}
