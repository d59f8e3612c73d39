//! What the kernel tells of devices that come, go and change (lib/kobject_uevent.c, netlink(7)).

use std::io::{IoSliceMut, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, socket,
};

/// The kernel's events, of all devices.
#[derive(Debug)]
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Listens from now on.
    ///
    /// # Errors
    /// What the system says, for example where a sandbox has no netlink sockets.
    pub(crate) fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self(fd))
    }

    /// Takes what has come; whether any of it was of a device of one of `subsystems`. What was lost may have been.
    pub(crate) fn take(&self, subsystems: &[&str]) -> bool {
        let mut concerns = false;
        for _ in 0..MOST_AT_ONCE {
            match self.next(subsystems) {
                Ok(Some(matches)) => concerns |= matches,
                Ok(None) => return concerns,
                Err(_) => return true,
            }
        }
        concerns
    }

    /// Whether the next event matters; `None` when there is none.
    fn next(&self, subsystems: &[&str]) -> nix::Result<Option<bool>> {
        let mut buffer = [0; LONGEST];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<NetlinkAddr>(self.0.as_raw_fd(), &mut parts, None, MsgFlags::empty());
        let (len, sender) = match received {
            Ok(message) => (message.bytes, message.address),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => return Ok(Some(false)),
            Err(error) => return Err(error),
        };
        // Anybody with the right capability can write here, the kernel alone as nobody.
        let is_kernel = sender.is_some_and(|sender| sender.pid() == 0);
        Ok(Some(is_kernel && concerns(buffer.get(..len).unwrap_or_default(), subsystems)))
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether an event is of a device of one of `subsystems`: `ACTION@DEVPATH`, then lines `KEY=VALUE`, each ended by a 0.
fn concerns(event: &[u8], subsystems: &[&str]) -> bool {
    let subsystem = event.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"SUBSYSTEM="));
    subsystem.is_some_and(|name| subsystems.iter().any(|known| known.as_bytes() == name))
}

/// What the kernel says itself; group 2 is what udev makes of it.
const KERNEL_GROUP: u32 = 1;

/// The kernel's UEVENT_BUFFER_SIZE is 2048, and what stands before it is a path.
const LONGEST: usize = 8192;

/// Others have their turn after so many.
const MOST_AT_ONCE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_by_its_subsystem_alone() {
        let event = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=power_supply\0SEQNUM=1\0";
        assert!(concerns(event, &["thermal", "power_supply"]));
        assert!(!concerns(event, &["thermal", "power"]));
        for wrong in
            [&b""[..], b"\0\0\0", b"SUBSYSTEM", b"add@SUBSYSTEM=power_supply", b"\xff\xfe\0SUBSYSTEM=\xff"]
        {
            assert!(!concerns(wrong, &["power_supply"]), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_has_come_where_nothing_happened_to_such_a_device() {
        // A sandbox may have no such sockets.
        if let Ok(events) = Uevents::open() {
            assert!(!events.take(&["no-such-subsystem"]));
        }
    }

    /// Until something has come, or for a second.
    fn wait(events: &Uevents) {
        let mut fds = [nix::poll::PollFd::new(events.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 1_000_u16).unwrap();
    }

    #[test]
    fn what_the_kernel_tells_is_heard_and_what_a_program_tells_in_its_place_is_not() {
        let Ok(events) = Uevents::open() else { return };
        // Whoever is root can have the kernel tell of a device again (Documentation/ABI/testing/sysfs-uevent).
        if std::fs::write("/sys/class/misc/tun/uevent", "change").is_ok() {
            wait(&events);
            assert!(events.take(&["misc"]), "the kernel was heard");
        }
        let forger = Uevents::open().unwrap();
        let event = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=power_supply\0";
        let to = NetlinkAddr::new(0, KERNEL_GROUP);
        let sent = nix::sys::socket::sendto(forger.0.as_raw_fd(), event, &to, MsgFlags::empty());
        // Others may not even send.
        if sent.is_ok() {
            wait(&events);
            assert!(!events.take(&["power_supply"]), "only the kernel is believed");
        }
    }
}
