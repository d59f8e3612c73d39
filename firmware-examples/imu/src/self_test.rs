//! Does the sensor measure what it should? Three questions whose answers are known from elsewhere.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::motion::STANDARD_GRAVITY;

/// Holds `sample_at` (see [`motion::sample_at`](crate::motion::sample_at)) against what is known: two readings bit by
/// bit; the length of gravity, whatever the attitude; and the gyroscope, whose integral turns gravity into what the
/// accelerometer reads.
pub fn run(sample_at: impl Fn(u64) -> ([f32; 3], [f32; 3])) -> Report {
    let known_values = KNOWN.iter().all(|(t_us, accel, gyro)| {
        let (a, g) = sample_at(*t_us);
        a.map(f32::to_bits) == *accel && g.map(f32::to_bits) == *gyro
    });
    let (mut gravity_error, mut attitude_error) = (0.0_f32, 0.0_f32);
    let mut gravity = sample_at(0).0;
    for step in 0..STEPS {
        let start = u64::from(step) * STEP_US;
        let rate = sample_at(start + STEP_US / 2).1;
        let accel = sample_at(start + STEP_US).0;
        gravity = turned_back(gravity, rate);
        attitude_error = attitude_error.max(largest(minus(gravity, accel)));
        // To first order the difference of the lengths, without a square root.
        let length_error =
            (dot(accel, accel) - STANDARD_GRAVITY * STANDARD_GRAVITY) / (2.0 * STANDARD_GRAVITY);
        gravity_error = gravity_error.max(length_error.abs());
    }
    // Not `any(error > limit)`: an error that is not a number must fail too.
    let passed = known_values && gravity_error <= GRAVITY_LIMIT && attitude_error <= ATTITUDE_LIMIT;
    Report { passed, known_values, gravity_error, attitude_error, samples: 2 * STEPS }
}

/// What a self-test found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Schema)]
pub struct Report {
    /// Whether all of it was as it should be.
    pub passed: bool,
    /// Whether readings whose values are known came out bit by bit.
    pub known_values: bool,
    /// Largest error of gravity's length, in m/s².
    pub gravity_error: f32,
    /// Largest distance between the accelerometer and gravity turned by the integrated gyroscope, in m/s².
    pub attitude_error: f32,
    /// Readings that were taken for the last two.
    pub samples: u16,
}

/// A vector that is fixed in the world, on the head, one step later (second order in the step).
fn turned_back(vector: [f32; 3], rate: [f32; 3]) -> [f32; 3] {
    let angle = rate.map(|rate| -rate * (STEP_US as f32 * 1.0e-6));
    let first = cross(angle, vector);
    let second = cross(angle, first);
    [
        vector[0] + first[0] + second[0] * 0.5,
        vector[1] + first[1] + second[1] * 0.5,
        vector[2] + first[2] + second[2] * 0.5,
    ]
}

fn cross(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn minus(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn largest(vector: [f32; 3]) -> f32 {
    vector.into_iter().fold(0.0, |largest, x| if x.abs() <= largest { largest } else { x.abs() })
}

/// Time, acceleration and angular rate.
type Known = (u64, [u32; 3], [u32; 3]);

/// Two readings, computed once on a host; every processor must come to the same bits.
const KNOWN: [Known; 2] = [
    (1_234_567, [0xbfa5_ffb8, 0, 0x411b_8740], [0xbcf1_e6e6, 0xbee4_ec1e, 0x3e62_a4c8]),
    (86_401_500_001, [0x36b9_d51e, 0, 0x411c_e80b], [0x33b7_390d, 0xbf06_c0c6, 0x3e1a_b3f7]),
];

/// One nod of the head, 3 seconds, in steps of 10 ms.
const STEPS: u16 = 300;
const STEP_US: u64 = 10_000;

/// In m/s²; what the arithmetic of `f32` and the integration leave is a fifth of these.
const GRAVITY_LIMIT: f32 = 2.0e-5;
const ATTITUDE_LIMIT: f32 = 2.0e-3;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::motion::sample_at;

    #[test]
    fn the_sensor_passes() {
        let report = run(sample_at);
        assert!(report.passed, "{report:?}");
        assert!(report.gravity_error < GRAVITY_LIMIT / 4.0, "{report:?}");
        assert!(report.attitude_error < ATTITUDE_LIMIT / 4.0, "{report:?}");
    }

    #[test]
    fn a_sensor_that_is_off_fails_by_what_is_off() {
        let scaled = run(|t_us| (sample_at(t_us).0.map(|a| a * 1.001), sample_at(t_us).1));
        assert!(!scaled.passed && scaled.gravity_error > 0.009, "{scaled:?}");
        let biased = run(|t_us| (sample_at(t_us).0, sample_at(t_us).1.map(|g| g + 0.01)));
        assert!(!biased.passed && biased.attitude_error > 0.1, "{biased:?}");
        assert!(biased.gravity_error < GRAVITY_LIMIT);
        let stuck = run(|_| sample_at(0));
        assert!(!stuck.passed && !stuck.known_values, "{stuck:?}");
        let broken = run(|_| ([f32::NAN; 3], [f32::NAN; 3]));
        assert!(!broken.passed, "{broken:?}");
    }

    #[test]
    fn one_wrong_bit_is_found() {
        let almost =
            run(|t_us| (sample_at(t_us).0.map(|a| f32::from_bits(a.to_bits() ^ 1)), sample_at(t_us).1));
        assert!(!almost.passed && !almost.known_values);
    }
}
