//! Programs in Python: jeepney, which knows nothing that it is not told, and dbus-fast, which makes its objects of what
//! ours say of themselves.

use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::world::{Setup, World};

#[test]
fn jeepney_calls_reads_and_hears() {
    on_every_bus(include_str!("with_jeepney.py"));
}

#[test]
fn dbus_fast_calls_reads_and_hears_through_objects_that_it_makes() {
    on_every_bus(include_str!("with_dbus_fast.py"));
}

fn on_every_bus(script: &str) {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let allow =
            "\"request:imu/**\", \"subscribe:imu/**\", \"request:org.example.settings1/**\", \"imu.control\"";
        let world = World::of(Setup { bus, allow, ..Setup::default() }).with_sensor();
        let ran = world.bus.command("python3").args(["-c", script, world.bus.address()]).output();
        let ran = ran.unwrap_or_else(|e| panic!("python3: {e}; tests/run --only tools installs it"));
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && out.contains("all of it"), "{out}{err}");
        assert_eq!(world.statistics().faults, 0);
        world.serves_neighbours();
    }
}
