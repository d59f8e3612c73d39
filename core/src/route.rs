//! Where a message goes: address to local handler, to a peer, or to nobody. Knows names, not links.

use crate::bus;
use crate::error::IpcError;
use crate::message::{Address, Message};

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<P> {
    /// To the reserved component `bus` of this end.
    Bus,
    /// To a handler of this end.
    Local,
    /// To this peer.
    Peer(P),
    /// Nobody has this component.
    Unroutable,
}

/// Decides where `destination` leads: a message without one is for this end's own `bus`; `is_local` says whether this
/// end serves a component, `find_peer` who else does.
pub fn route<P>(
    destination: Option<Address<'_>>,
    is_local: impl FnOnce(&str) -> bool,
    find_peer: impl FnOnce(&str) -> Option<P>,
) -> Route<P> {
    let component = destination.map_or(bus::NAME, Address::component);
    if component == bus::NAME {
        return Route::Bus;
    }
    if is_local(component) {
        return Route::Local;
    }
    find_peer(component).map_or(Route::Unroutable, Route::Peer)
}

/// The source that a message carries on from here: its own where `owns` says that the sender's session has proven that
/// component, the session's name where it carries none.
///
/// # Errors
/// `Authorization` when the source is somebody else's.
pub fn proven_source<'a>(
    message: &Message<'a>,
    name: Address<'a>,
    owns: impl FnOnce(&str) -> bool,
) -> Result<Address<'a>, IpcError> {
    match message.source {
        None => Ok(name),
        Some(source) if source.component() == name.as_str() || owns(source.component()) => Ok(source),
        Some(_) => Err(IpcError::Authorization("the source is not this session's own: leave it empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_alone_decides() {
        let go = |text| {
            route(Some(Address::literal(text)), |name| name == "imu", |name| (name == "cli").then_some(7))
        };
        assert_eq!(go("imu/sample"), Route::Local);
        assert_eq!(go("imu2/sample"), Route::Unroutable);
        assert_eq!(go("cli"), Route::Peer(7));
        assert_eq!(go("bus/hello"), Route::Bus);
        assert_eq!(route::<()>(None, |_| true, |_| None), Route::Bus);
    }

    #[test]
    fn a_forged_source_is_refused() {
        let mut message = Message::request(1, Address::literal("imu/info"));
        let name = Address::literal("cli");
        assert_eq!(proven_source(&message, name, |_| false), Ok(name));
        message.source = Some(Address::literal("cli/ui"));
        assert_eq!(proven_source(&message, name, |_| false), Ok(Address::literal("cli/ui")));
        message.source = Some(Address::literal("imu"));
        assert!(proven_source(&message, name, |_| false).is_err());
        assert_eq!(proven_source(&message, name, |own| own == "imu"), Ok(Address::literal("imu")));
    }
}
