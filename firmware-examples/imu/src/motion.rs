//! What the sensor measures: a head that turns slowly from side to side and nods, as a function of time alone.
//!
//! The axes are fixed to the head: x forward, y left, z up, right-handed. The head turns by the yaw angle about the
//! vertical, then nods by the pitch angle about its own y axis (positive is nose down):
//!
//! ```text
//! yaw(t)   = 0.08 turn * sin(2 pi t / 8 s)        accel = g (-sin pitch, 0, cos pitch)
//! pitch(t) = 0.04 turn * sin(2 pi t / 3 s)        gyro  = (-yaw' sin pitch, pitch', yaw' cos pitch)
//! ```
//!
//! So the gyroscope's reading, integrated, is the attitude that turns gravity into the accelerometer's reading. The
//! sensor sits where the axes meet and is not accelerated itself: at rest and level it reads +g upward.
//!
//! The motion repeats every 24 seconds. Only additions and multiplications of `f32` are used, in a fixed order, so the
//! host and the microcontroller compute the same bits.

/// What the sensor reads at `t_us` microseconds: acceleration in m/s² and angular rate in rad/s, on x, y and z.
pub fn sample_at(t_us: u64) -> ([f32; 3], [f32; 3]) {
    let pitch = NOD.angle_at(t_us);
    let (sin_pitch, cos_pitch) = (sin_turns(pitch), cos_turns(pitch));
    let (yaw_rate, pitch_rate) = (TURN.rate_at(t_us), NOD.rate_at(t_us));
    let accel = [-STANDARD_GRAVITY * sin_pitch, 0.0, STANDARD_GRAVITY * cos_pitch];
    let gyro = [-yaw_rate * sin_pitch, pitch_rate, yaw_rate * cos_pitch];
    (accel, gyro)
}

/// An angle that swings like a sine.
struct Swing {
    /// The largest angle, in turns.
    amplitude: f32,
    /// Below 2^24, so that a time within it is exact in an `f32`.
    period_us: u32,
}

impl Swing {
    /// The angle, in turns.
    fn angle_at(&self, t_us: u64) -> f32 {
        self.amplitude * sin_turns(self.phase_at(t_us))
    }

    /// The angle's derivative, in rad/s.
    fn rate_at(&self, t_us: u64) -> f32 {
        let peak = self.amplitude * RADIANS_PER_TURN * RADIANS_PER_TURN * (1.0e6 / self.period_us as f32);
        peak * cos_turns(self.phase_at(t_us))
    }

    /// How far into the period, from 0 to 1.
    fn phase_at(&self, t_us: u64) -> f32 {
        (t_us % u64::from(self.period_us)) as u32 as f32 * (1.0 / self.period_us as f32)
    }
}

/// The sine of an angle from -1.25 to 1.25 turns, with an error of at most 3e-7.
fn sin_turns(angle: f32) -> f32 {
    // To the nearest half turn around zero, then mirrored into the quarter on either side of it.
    let half = if angle > 0.5 {
        angle - 1.0
    } else if angle < -0.5 {
        angle + 1.0
    } else {
        angle
    };
    let quarter = if half > 0.25 {
        0.5 - half
    } else if half < -0.25 {
        -0.5 - half
    } else {
        half
    };
    let square = quarter * quarter;
    SINE.iter().rev().fold(0.0, |sum, coefficient| sum * square + coefficient) * quarter
}

/// The cosine of an angle from -1 to 1 turn, as exact as the sine.
fn cos_turns(angle: f32) -> f32 {
    sin_turns(angle + 0.25)
}

const TURN: Swing = Swing { amplitude: 0.08, period_us: 8_000_000 };
const NOD: Swing = Swing { amplitude: 0.04, period_us: 3_000_000 };

/// The acceleration of free fall that the sensor reads at rest, in m/s² (ISO 80000-3).
pub const STANDARD_GRAVITY: f32 = 9.806_65;
const RADIANS_PER_TURN: f32 = core::f32::consts::TAU;

/// sin(2 pi x) / x as a polynomial in x², interpolated at the Chebyshev nodes for |x| up to a quarter.
const SINE: [f32; 5] = [6.283_185_5, -41.341_682, 81.602_48, -76.581_17, 39.759_827];

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Compares the sine with the one of the host.
    #[test]
    fn sine_is_as_exact_as_documented() {
        for i in -1_250_000..=1_250_000_i32 {
            let angle = i as f32 / 1.0e6;
            let exact = (f64::from(angle) * core::f64::consts::TAU).sin();
            assert!((f64::from(sin_turns(angle)) - exact).abs() <= 3.0e-7, "{angle}");
        }
    }

    #[test]
    fn a_level_head_reads_gravity_upward_and_both_rates() {
        let (accel, gyro) = sample_at(0);
        assert_eq!(accel, [0.0, 0.0, STANDARD_GRAVITY]);
        let expected = [0.0, 0.04 * 39.478_417 / 3.0, 0.08 * 39.478_417 / 8.0];
        for (measured, expected) in gyro.into_iter().zip(expected) {
            assert!((measured - expected).abs() < 1.0e-6, "{gyro:?}");
        }
    }

    /// Pins the bits: the firmware has to compute the same ones.
    #[test]
    fn samples_are_the_same_bits_everywhere() {
        let bits = |t_us| {
            let (accel, gyro) = sample_at(t_us);
            (accel.map(f32::to_bits), gyro.map(f32::to_bits))
        };
        let early = ([0xbfa5_ffb8, 0, 0x411b_8740], [0xbcf1_e6e6, 0xbee4_ec1e, 0x3e62_a4c8]);
        assert_eq!(bits(1_234_567), early);
        let a_day_later = ([0x36b9_d51e, 0, 0x411c_e80b], [0x33b7_390d, 0xbf06_c0c6, 0x3e1a_b3f7]);
        assert_eq!(bits(86_401_500_001), a_day_later);
    }

    #[test]
    fn gravity_has_its_length_at_any_time() {
        for t_us in (0..24_000_000).step_by(997) {
            let length = length(sample_at(t_us).0.map(f64::from));
            assert!((length - f64::from(STANDARD_GRAVITY)).abs() < 1.0e-5, "{length} at {t_us}");
        }
    }

    /// Gravity stands still in the world, so on the head it changes by minus the angular rate times itself.
    #[test]
    fn the_integrated_gyroscope_turns_gravity_into_the_accelerometer_reading() {
        let mut gravity = sample_at(0).0.map(f64::from);
        for step in 0..24_000 {
            let middle = sample_at(step * STEP_US + STEP_US / 2).1.map(f64::from);
            gravity = turned_back(gravity, middle);
            let measured = sample_at((step + 1) * STEP_US).0.map(f64::from);
            assert!(length(minus(gravity, measured)) < 2.0e-4, "{gravity:?} {measured:?} after step {step}");
        }
    }

    /// Heading is what the accelerometer cannot see: follow north as well, and compare with the yaw angle.
    #[test]
    fn the_integrated_gyroscope_follows_the_heading() {
        let mut north = [1.0, 0.0, 0.0];
        for step in 0..24_000 {
            north = turned_back(north, sample_at(step * STEP_US + STEP_US / 2).1.map(f64::from));
            // North on the head is (cos yaw cos pitch, -sin yaw, cos yaw sin pitch).
            let yaw = TURN.angle_at((step + 1) * STEP_US);
            assert!((north[1] + f64::from(sin_turns(yaw))).abs() < 2.0e-5, "{north:?} after step {step}");
        }
    }

    #[test]
    fn the_motion_repeats_after_24_seconds_and_at_the_end_of_time() {
        assert_eq!(sample_at(5_000_001), sample_at(29_000_001));
        assert!(sample_at(u64::MAX).0.into_iter().all(f32::is_finite));
    }

    const STEP_US: u64 = 1_000;

    /// A vector that is fixed in the world, on the head, one step later (second order in the step).
    fn turned_back(vector: [f64; 3], rate: [f64; 3]) -> [f64; 3] {
        let angle = rate.map(|rate| -rate * STEP_US as f64 * 1.0e-6);
        let first = cross(angle, vector);
        let second = cross(angle, first);
        [0, 1, 2].map(|i| vector[i] + first[i] + second[i] / 2.0)
    }

    fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    }

    fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
        [0, 1, 2].map(|i| a[i] - b[i])
    }

    fn length(vector: [f64; 3]) -> f64 {
        vector.into_iter().map(|x| x * x).sum::<f64>().sqrt()
    }
}
