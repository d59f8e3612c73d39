//! What a program of the bus is told when something is wrong: the name of a D-Bus error, and a text.

use visorbus_core::ErrorKind;
use visorbus_hub::Error;

/// An error as D-Bus has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The error's name.
    pub(crate) name: &'static str,
    /// What is wrong, where, and what to do.
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into() }
    }

    /// Arguments that are of the right types and mean nothing, or of the wrong ones.
    pub(crate) fn invalid_args(text: impl Into<String>) -> Self {
        Self::new(INVALID_ARGS, text)
    }
}

/// The error's kind becomes the name, its text stays as it is.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let name = match error.kind() {
            ErrorKind::Authentication => AUTH_FAILED,
            ErrorKind::Authorization => ACCESS_DENIED,
            ErrorKind::Connection => CONNECTION,
            ErrorKind::Message => MESSAGE,
            ErrorKind::Timeout => TIMEOUT,
            ErrorKind::Serialization => SERIALIZATION,
            ErrorKind::Protocol => PROTOCOL,
            ErrorKind::Internal => INTERNAL,
        };
        Self::new(name, error.text().as_str())
    }
}

/// The caller may not do this.
pub(crate) const ACCESS_DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
/// Who the caller is could not be established.
pub(crate) const AUTH_FAILED: &str = "org.freedesktop.DBus.Error.AuthFailed";
/// The answer did not come in time.
pub(crate) const TIMEOUT: &str = "org.freedesktop.DBus.Error.Timeout";
/// The arguments are not those of the member.
pub(crate) const INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";
/// A value is not of the type that an address takes.
pub(crate) const INVALID_SIGNATURE: &str = "org.freedesktop.DBus.Error.InvalidSignature";
/// More than one program may have.
pub(crate) const LIMITS_EXCEEDED: &str = "org.freedesktop.DBus.Error.LimitsExceeded";
/// There is no such object.
pub(crate) const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";
/// The object has no such interface.
pub(crate) const UNKNOWN_INTERFACE: &str = "org.freedesktop.DBus.Error.UnknownInterface";
/// The interface has no such method.
pub(crate) const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
/// The interface has no such property.
pub(crate) const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.UnknownProperty";
/// The property cannot be written.
pub(crate) const PROPERTY_READ_ONLY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";
/// The component is not there, or no longer.
pub(crate) const CONNECTION: &str = "org.visorbus.Error.Connection";
/// What is asked cannot be done: no such address, a value out of range, a full queue.
pub(crate) const MESSAGE: &str = "org.visorbus.Error.Message";
/// A payload is not what the address takes or gives.
pub(crate) const SERIALIZATION: &str = "org.visorbus.Error.Serialization";
/// Somebody broke the rules of the wire.
pub(crate) const PROTOCOL: &str = "org.visorbus.Error.Protocol";
/// A fault of whoever answers.
pub(crate) const INTERNAL: &str = "org.visorbus.Error.Internal";
