//! busctl of systemd.

use crate::world::{Axis, IMU, IMU_INTERFACE, PANEL, ROOT, Rate, SERVICE, Said, World, serve};

fn busctl(world: &World, args: &[&str], meanwhile: impl FnOnce()) -> Said {
    world.run("busctl", &[&["--user", "--no-pager", "--timeout=20"], args].concat(), meanwhile)
}

fn call(world: &World, args: &[&str], meanwhile: impl FnOnce()) -> Said {
    busctl(world, &[&["call", SERVICE], args].concat(), meanwhile)
}

#[test]
fn an_endpoint_of_a_component_is_called_with_typed_arguments() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    let args = [IMU, IMU_INTERFACE, "SetRate", "us", "100", "Y"];
    let said = call(&world, &args, || assert_eq!(serve(&mut imu), Rate { hz: 100, axis: Axis::Y }));
    assert_eq!(said.good(), "u 50");
}

#[test]
fn what_a_component_hears_is_told_to_it() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    call(&world, &[IMU, IMU_INTERFACE, "Reset"], || {
        imu.read_topic("imu/reset");
    })
    .good();
}

#[test]
fn the_bridge_calls_any_address_typed_and_in_json() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    let typed = [ROOT, SERVICE, "Call", "sva{sv}", "imu/set-rate", "(us)", "100", "X", "0"];
    let said = call(&world, &typed, || assert_eq!(serve(&mut imu), Rate { hz: 100, axis: Axis::X }));
    assert_eq!(said.good(), "v (u) 50");
    let json = r#"{"hz":7,"axis":"Y"}"#;
    let json = [ROOT, SERVICE, "Call", "sva{sv}", "imu/set-rate", "s", json, "1", "json", "b", "true"];
    let said = call(&world, &json, || assert_eq!(serve(&mut imu), Rate { hz: 7, axis: Axis::Y }));
    assert_eq!(said.good(), r#"v s "{\"hz\":50}""#);
}

#[test]
fn what_is_wrong_is_said_and_does_not_reach_the_component() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    for (args, expected) in [
        (vec![IMU, IMU_INTERFACE, "SetRate", "s", "fast"], "takes 'us' (u hz, s axis), not 's'"),
        (vec![IMU, IMU_INTERFACE, "SetRate", "us", "1", "Q"], "X, Y"),
        (vec![IMU, IMU_INTERFACE, "Explode"], "no method 'Explode'"),
        (vec![ROOT, SERVICE, "Call", "sva{sv}", "imu/set-rate", "s", "fast", "0"], "'(us)' is taken"),
        (
            vec![ROOT, SERVICE, "Call", "sva{sv}", "imu/set-rate", "(us)", "1", "X", "1", "time", "u", "1"],
            "'time'",
        ),
        (vec![ROOT, SERVICE, "Call", "sva{sv}", "camera/start", "s", "", "0"], "Access denied"),
        (
            vec!["/org/visorbus/Bus1/components/camera", "org.visorbus.components.Camera", "Start"],
            "no component 'camera'",
        ),
    ] {
        let said = call(&world, &args, || {}).bad();
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    assert!(imu.read_so_far().is_empty());
}

#[test]
fn introspection_shows_members_signatures_and_properties() {
    let world = World::with_panel(PANEL);
    let _imu = world.imu();
    let root = busctl(&world, &["introspect", SERVICE, ROOT], || {}).good();
    for member in
        ["org.visorbus.Bus1", ".Call", ".Subscribe", ".Notification", ".Version", ".GetManagedObjects"]
    {
        assert!(root.contains(member), "{member} in {root}");
    }
    let imu = busctl(&world, &["introspect", SERVICE, IMU], || {}).good();
    let line = |member: &str| {
        let line = imu.lines().find(|line| line.starts_with(member)).unwrap_or_else(|| panic!("{imu}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line(".SetRate")[..4], [".SetRate", "method", "us", "u"]);
    assert_eq!(line(".Samples")[..3], [".Samples", "signal", "tan"]);
    assert_eq!(line(".Name")[..4], [".Name", "property", "s", "\"imu\""]);
    assert!(line(".Reset").contains(&"no-reply".to_owned()), "{imu}");
}

#[test]
fn the_tree_has_an_object_for_every_component() {
    let world = World::with_panel(PANEL);
    let _imu = world.imu();
    let tree = busctl(&world, &["tree", "--list", SERVICE], || {}).good();
    assert!(tree.lines().any(|line| line == IMU), "{tree}");
}

#[test]
fn properties_are_read() {
    let world = World::with_panel(PANEL);
    let _imu = world.imu();
    let get = |path: &str, interface: &str, name: &str| {
        busctl(&world, &["get-property", SERVICE, path, interface, name], || {})
    };
    assert_eq!(get(ROOT, SERVICE, "Version").good(), format!("s \"{}\"", env!("CARGO_PKG_VERSION")));
    assert_eq!(get(ROOT, SERVICE, "Subject").good(), "s \"panel\"");
    assert_eq!(get(IMU, "org.visorbus.Component1", "Name").good(), "s \"imu\"");
    assert!(get(ROOT, SERVICE, "Secret").bad().contains("no property 'Secret'"));
    let set = ["set-property", SERVICE, ROOT, SERVICE, "Version", "s", "2"];
    assert!(busctl(&world, &set, || {}).bad().contains("can only be read"));
}

#[test]
fn a_stranger_sees_no_component_and_calls_none() {
    let world = World::with_strangers();
    let mut imu = world.imu();
    let tree = busctl(&world, &["tree", "--list", SERVICE], || {}).good();
    assert!(!tree.contains("imu"), "{tree}");
    assert!(busctl(&world, &["introspect", SERVICE, ROOT], || {}).good().contains(".Authenticate"));
    busctl(&world, &["introspect", SERVICE, IMU], || {}).bad();
    call(&world, &[IMU, IMU_INTERFACE, "SetRate", "us", "100", "Y"], || {}).bad();
    call(&world, &[ROOT, SERVICE, "ListServices"], || {}).bad();
    let bridge = [ROOT, SERVICE, "Call", "sva{sv}", "imu/set-rate", "(us)", "100", "X", "0"];
    call(&world, &bridge, || {}).bad();
    assert!(imu.read_so_far().is_empty());
}
