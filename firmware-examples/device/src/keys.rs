//! The key of this device: given to the build, or the development key that everyone knows.

use visorbus_core::auth::Key;
use visorbus_core::secure::{LinkKey, Suite};

/// The root key of hubs and devices on a developer's desk. It stands here for everyone to read and so protects nothing.
///
/// A build without `VISORBUS_DEVICE_KEY` derives its device key from it, and says so at start; a hub that is given this
/// root key then talks to it.
pub const DEVELOPMENT_ROOT_KEY: [u8; 32] = *b"visorbus development root key 01";

/// The id of the hub's root key that the device's key is derived from.
pub const KEY_ID: u8 = 0;

/// Whether this build runs on [`DEVELOPMENT_ROOT_KEY`].
pub const USES_DEVELOPMENT_KEY: bool = BUILT_IN.is_none();

/// The key that the device `name` shares with its hub: the 64 hexadecimal digits that were in `VISORBUS_DEVICE_KEY` when
/// this crate was built (`root.derive(name)` of the hub's root key 0), or what is derived so from the development key.
pub fn device_key(name: &str) -> Key {
    match BUILT_IN {
        Some(key) => Key::new(key),
        None => Key::new(DEVELOPMENT_ROOT_KEY).derive(name),
    }
}

/// The key of the line of the device `name`, on a developer's desk. It stands here for everyone to read and so protects
/// nothing: suite `tag64`, id 0. A real device gets its own, the text that `visorbus key provision` prints, by
/// `VISORBUS_LINK_KEY` when this crate is built.
///
/// # Panics
/// When what was given to the build is no link key, or one of another device.
pub fn link_key(name: &str) -> LinkKey {
    let key = match option_env!("VISORBUS_LINK_KEY") {
        Some(text) => LinkKey::parse(text.trim()).ok().filter(|key| key.name() == name),
        None => LinkKey::new(0, Suite::Tag64, name, Key::new(DEVELOPMENT_LINK_SECRET)),
    };
    match key {
        Some(key) => key,
        None => panic!("VISORBUS_LINK_KEY is not a link key of this device: see `visorbus key provision`"),
    }
}

/// What [`link_key`] is made from unless the build was given a key.
pub const DEVELOPMENT_LINK_SECRET: [u8; 32] = *b"visorbus development link key 01";

const BUILT_IN: Option<[u8; 32]> = match option_env!("VISORBUS_DEVICE_KEY") {
    Some(text) => Some(parse_hex(text.as_bytes())),
    None => None,
};

/// Evaluated while compiling: a key that is not one stops the build.
const fn parse_hex(text: &[u8]) -> [u8; 32] {
    assert!(text.len() == 64, "VISORBUS_DEVICE_KEY has 64 hexadecimal digits, for 32 bytes");
    let mut key = [0; 32];
    let mut at = 0;
    while at < key.len() {
        key[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    key
}

const fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => panic!("VISORBUS_DEVICE_KEY has only hexadecimal digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let text = b"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        assert_eq!(parse_hex(text), core::array::from_fn(|at| at as u8));
    }

    #[test]
    #[should_panic(expected = "64 hexadecimal digits")]
    fn a_short_key_is_refused() {
        parse_hex(b"00");
    }

    #[test]
    fn the_development_key_is_derived_for_each_device() {
        if USES_DEVELOPMENT_KEY {
            let derived = Key::new(DEVELOPMENT_ROOT_KEY).derive("imu");
            assert_eq!(device_key("imu").expose_secret(), derived.expose_secret());
            assert_ne!(device_key("controller").expose_secret(), derived.expose_secret());
        }
    }
}
