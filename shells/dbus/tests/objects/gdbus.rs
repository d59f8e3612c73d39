//! gdbus of GLib.

use crate::world::{Axis, IMU, PANEL, ROOT, Rate, SERVICE, Said, World, serve};

fn gdbus(world: &World, command: &str, path: &str, args: &[&str], meanwhile: impl FnOnce()) -> Said {
    let front = [command, "--session", "--dest", SERVICE, "--object-path", path];
    world.run("gdbus", &[&front, args].concat(), meanwhile)
}

#[test]
fn an_endpoint_is_called_by_its_description() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    // gdbus reads the introspection data first, and makes the arguments of the types that it finds there.
    let args = ["--method", "org.visorbus.components.Imu.SetRate", "100", "Y"];
    let said = gdbus(&world, "call", IMU, &args, || {
        assert_eq!(serve(&mut imu), Rate { hz: 100, axis: Axis::Y });
    });
    assert_eq!(said.good(), "(uint32 50,)");
}

#[test]
fn introspection_data_of_every_object_is_read() {
    let world = World::with_panel(PANEL);
    let _imu = world.imu();
    for path in ["/", "/org", "/org/visorbus", ROOT, "/org/visorbus/Bus1/components", IMU] {
        let said = gdbus(&world, "introspect", path, &[], || {}).good();
        assert!(said.contains("interface org.freedesktop.DBus.Introspectable {"), "{path}: {said}");
    }
    let imu = gdbus(&world, "introspect", IMU, &[], || {}).good();
    for expected in ["SetRate(in  u hz,", "in  s axis,", "out u hz);", "Samples(t at,", "an values);"] {
        assert!(imu.contains(expected), "{expected} in {imu}");
    }
}

#[test]
fn all_objects_are_had_at_once() {
    let world = World::with_panel(PANEL);
    let _imu = world.imu();
    let args = ["--method", "org.freedesktop.DBus.ObjectManager.GetManagedObjects"];
    let said = gdbus(&world, "call", ROOT, &args, || {}).good();
    for expected in [IMU, "'org.visorbus.Component1'", "'Name': <'imu'>", "'org.visorbus.components.Imu'"] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

#[test]
fn the_bridge_tells_services_types_and_permissions() {
    let world = World::with_panel(PANEL);
    let _imu = world.imu();
    let bridge = |method: &str, args: &[&str]| {
        let method = format!("org.visorbus.Bus1.{method}");
        gdbus(&world, "call", ROOT, &[&["--method", &method], args].concat(), || {}).good()
    };
    assert!(bridge("ListServices", &[]).contains("('imu/set-rate', 'endpoint', 'permission')"));
    let described = bridge("Describe", &["imu/set-rate"]);
    assert!(described.starts_with("('(us)', 'struct Rate"), "{described}");
    assert!(bridge("Permissions", &[]).contains("('request', 'imu/*'"), "{}", bridge("Permissions", &[]));
}
