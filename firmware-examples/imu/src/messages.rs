//! What the sensor publishes and answers. Whoever talks to it from Rust uses these types; others read their schemas.

use heapless::String;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_core::auth::Access;
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, Topic};

pub use crate::self_test::Report;

/// The sensor's name on the bus.
pub const NAME: &str = "imu";

/// The scope that it takes to change how the sensor runs.
pub const CONTROL: &str = "imu.control";

/// The rates that the sensor can publish at, in Hz.
pub const RATES_HZ: core::ops::RangeInclusive<u16> = 1..=1000;

/// The rate that it starts with, in Hz.
pub const DEFAULT_RATE_HZ: u16 = 100;

/// `imu/sample`: published at the rate in force.
#[derive(Debug, Clone, Copy)]
pub struct Samples;

impl Topic for Samples {
    type Message = Sample;
    const ADDRESS: Address<'static> = Address::literal("imu/sample");
    const ACCESS: Access<'static> = Access::Permission;
}

/// One reading of the sensor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Schema)]
pub struct Sample {
    /// When it was taken: microseconds on the board's clock, which starts with the board. The message's own timestamp is
    /// the same moment, in the hub's clock once that is known.
    pub timestamp_us: u64,
    /// Acceleration on x, y and z, in m/s²; at rest and level it is +g on z.
    pub accel: [f32; 3],
    /// Angular rate about x, y and z, in rad/s.
    pub gyro: [f32; 3],
}

/// `imu/info`: who the sensor is and how it does.
#[derive(Debug, Clone, Copy)]
pub struct GetInfo;

impl Endpoint for GetInfo {
    type Request = ();
    type Response = Info;
    const ADDRESS: Address<'static> = Address::literal("imu/info");
    const ACCESS: Access<'static> = Access::Permission;
}

/// Who the sensor is and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Info {
    /// Version of the firmware.
    pub firmware: String<16>,
    /// What the sensor runs on.
    pub board: String<32>,
    /// Differs at each start.
    pub boot_id: u64,
    /// Samples a second.
    pub rate_hz: u16,
    /// Samples published since the start.
    pub samples_sent: u32,
    /// Samples that the link had no room for. Both counters wrap.
    pub samples_dropped: u32,
    /// Microseconds since the start.
    pub uptime_us: u64,
}

/// `imu/set-rate`: takes a rate in Hz, one of [`RATES_HZ`], and answers the rate in force from then on.
#[derive(Debug, Clone, Copy)]
pub struct SetRate;

impl Endpoint for SetRate {
    type Request = u16;
    type Response = u16;
    const ADDRESS: Address<'static> = Address::literal("imu/set-rate");
    const ACCESS: Access<'static> = Access::Scope(CONTROL);
}

/// `imu/self-test`: holds the sensor against what is known of its motion. Takes some milliseconds on a
/// microcontroller.
#[derive(Debug, Clone, Copy)]
pub struct SelfTest;

impl Endpoint for SelfTest {
    type Request = ();
    type Response = Report;
    const ADDRESS: Address<'static> = Address::literal("imu/self-test");
    const ACCESS: Access<'static> = Access::Permission;
}

#[cfg(test)]
mod tests {
    use visorbus_core::Message;
    use visorbus_core::MessagePayload;
    use visorbus_core::codec::encode_header_to;

    use super::*;

    /// As it goes once the hub knows the table: by the number of its row, without an id, which the hub gives it.
    #[test]
    fn a_sample_costs_at_most_16_bytes_beside_its_payload_on_a_serial_line() {
        // Its values as they are at the end of a day at 100 Hz.
        let sample =
            Sample { timestamp_us: 86_400_000_000, accel: [0.5, -0.25, 9.75], gyro: [0.1, 0.2, 0.3] };
        let (mut payload, mut head, mut line) = ([0; 64], [0; 128], [0; 128]);
        let payload = postcard::to_slice(&sample, &mut payload).unwrap();
        assert_eq!(payload.len(), 24 + 6, "two vectors, and the time as a varint");
        let message =
            Message::notification(0, Samples::ADDRESS).with_payload(MessagePayload::Binary(payload));
        for timestamp in [None, Some(sample.timestamp_us)] {
            let message = Message { timestamp, ..message };
            let len = encode_header_to(&message, Some(3), &mut head).unwrap();
            let len = visorbus_core::frame::serial::encode(&[&head[..len], payload], &mut line).unwrap();
            let over = len - payload.len();
            assert!(over <= 16, "{over} bytes beside the payload with {timestamp:?}");
        }
    }
}
