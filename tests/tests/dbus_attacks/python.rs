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

#[test]
fn the_program_of_the_page_calls_and_hears() {
    let page = include_str!("../../../docs/dbus.md");
    let program = page.split("```python\n").nth(1).expect("a program").split("```").next().unwrap();
    let run = |allow| {
        let world = World::allowing(allow).with_sensor();
        let ran = world.bus.command("python3").args(["-c", program, world.bus.address()]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.success(), text(&ran.stdout), text(&ran.stderr))
    };
    let (is_well, out, err) = run("\"request:imu/*\", \"subscribe:imu/*\"");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split(' ').collect()).collect();
    assert!(is_well && lines.len() == 2, "{out}{err}");
    assert!(lines[0][0] == "info" && lines[0].len() > 1, "{out}");
    assert_eq!(lines[1][0], "sample");
    assert!(lines[1][1].parse::<u64>().is_ok_and(|timestamp| timestamp > 0), "{out}");

    let (is_well, out, err) = run("\"request:vault/*\"");
    assert!(!is_well && out.is_empty() && err.contains("no component 'imu'"), "{out}{err}");
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
