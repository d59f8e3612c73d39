//! The example, used as its own text says.

#[allow(dead_code, reason = "an example's main is for cargo run")]
#[path = "../examples/lamp.rs"]
mod lamp;

use std::sync::mpsc;

use visorbus_dbus::BusAddress;
use visorbus_tests::dbus_daemon::DbusDaemon;

const OBJECT: [&str; 3] = ["org.example.Lamp", "/org/example/Lamp", "org.example.Lamp1"];

#[test]
fn the_lamp_is_switched_and_dimmed_with_busctl() {
    let bus = DbusDaemon::start();
    let (switched, news) = mpsc::channel();
    let service = lamp::serve(BusAddress::Address(bus.address().to_owned()), switched).unwrap();
    while service.state().is_none_or(|state| !state.owns_name) {
        std::thread::yield_now();
    }
    let shown = busctl(&bus, "introspect", &[]).unwrap();
    assert!([".Toggle", ".Switched", ".Brightness"].iter().all(|member| shown.contains(member)), "{shown}");
    assert_eq!(busctl(&bus, "call", &["Toggle"]).unwrap(), "b true\n");
    assert_eq!(busctl(&bus, "call", &["Toggle"]).unwrap(), "b false\n");
    assert_eq!([news.recv(), news.recv()], [Ok(true), Ok(false)]);
    assert_eq!(busctl(&bus, "set-property", &["Brightness", "y", "80"]).unwrap(), "");
    assert_eq!(busctl(&bus, "get-property", &["Brightness"]).unwrap(), "y 80\n");
    assert!(busctl(&bus, "set-property", &["Brightness", "y", "101"]).unwrap_err().contains("100 percent"));
    assert!(busctl(&bus, "call", &["Toggle", "s", "now"]).is_err());
}

/// What busctl says.
fn busctl(bus: &DbusDaemon, command: &str, arguments: &[&str]) -> Result<String, String> {
    let address = format!("--address={}", bus.address());
    let output = bus.command("busctl").args([&address, command]).args(OBJECT).args(arguments).output();
    let output = output.expect("busctl, of systemd");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
