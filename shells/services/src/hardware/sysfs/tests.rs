use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use visorbus_hub::Value;

use super::*;

/// A tree as the kernel's: devices under `devices`, linked from the classes.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A device and its files.
    fn device(&self, class: &str, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.path("devices/virtual").join(class.replace('/', "_")).join(name);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
            fs::write(folder.join(file), text).unwrap();
        }
        fs::create_dir_all(self.path(class)).unwrap();
        let up = "../".repeat(class.split('/').count());
        let target = format!("{up}devices/virtual/{}/{name}", class.replace('/', "_"));
        symlink(target, self.path(class).join(name)).unwrap();
        folder
    }

    fn scan(&self) -> Vec<Device> {
        scan(self.0.path(), 1024).unwrap().devices
    }

    fn only(&self) -> Device {
        let mut devices = self.scan();
        assert_eq!(devices.len(), 1, "{devices:?}");
        devices.remove(0)
    }
}

fn value(device: &Device, name: &str) -> Value {
    device.property(name).unwrap_or_else(|| panic!("no {name} in {device:?}")).value.clone()
}

fn float(device: &Device, name: &str, unit: &str) -> f64 {
    assert_eq!(device.property(name).map(|property| property.unit.as_str()), Some(unit), "{name}");
    match value(device, name) {
        Value::Float(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_battery_is_read_in_units_of_people() {
    let tree = Tree::new();
    let files = [
        ("type", "Battery\n"),
        ("status", "Discharging\n"),
        ("capacity", "87\n"),
        ("voltage_now", "3912000\n"),
        ("current_now", "-412000\n"),
        ("temp", "314\n"),
        ("model_name", "VB-4000\n"),
        ("online", "1\n"),
    ];
    tree.device("class/power_supply", "BAT0", &files);
    let battery = tree.only();
    assert_eq!((battery.id.as_str(), battery.kind.as_str()), ("power_supply/BAT0", "power_supply"));
    assert_eq!((battery.name.as_str(), battery.state.as_str()), ("VB-4000", "discharging"));
    assert_eq!(value(&battery, "capacity"), Value::Integer(87));
    assert_eq!(value(&battery, "online"), Value::Bool(true));
    assert!((float(&battery, "voltage", "V") - 3.912).abs() < 1e-12);
    assert!((float(&battery, "current", "A") + 0.412).abs() < 1e-12);
    assert!((float(&battery, "temperature", "°C") - 31.4).abs() < 1e-12);
    assert!(battery.property("voltage").unwrap().reading && !battery.property("capacity").unwrap().reading);
    assert!(battery.commands.is_empty());
}

#[test]
fn each_class_is_read_as_the_kernel_documents_it() {
    let tree = Tree::new();
    let zone =
        [("type", "cpu-thermal"), ("temp", "48250"), ("mode", "enabled"), ("trip_point_0_type", "passive")];
    let trips =
        [("trip_point_0_temp", "85000"), ("trip_point_1_temp", "95000"), ("trip_point_1_type", "passive")];
    tree.device("class/thermal", "thermal_zone0", &[&zone[..], &trips].concat());
    tree.device(
        "class/thermal",
        "cooling_device3",
        &[("type", "fan"), ("cur_state", "2"), ("max_state", "4")],
    );
    let imu = [("name", "icm42688"), ("in_accel_x_raw", "-1024"), ("in_accel_scale", "0.009576806")];
    let more = [
        ("in_temp_raw", "50"),
        ("in_temp_scale", "7.5"),
        ("in_temp_offset", "3300"),
        ("in_proximity_raw", "7"),
    ];
    tree.device("bus/iio/devices", "iio:device0", &[&imu[..], &more].concat());
    tree.device("bus/iio/devices", "trigger0", &[("name", "sysfstrig")]);
    let sensors =
        [("name", "nct6775"), ("temp1_input", "41000"), ("temp1_label", "SoC"), ("temp1_crit", "100000")];
    let others =
        [("temp2_input", "42000"), ("temp2_label", "SoC"), ("fan1_input", "1480"), ("in0_input", "1792")];
    tree.device("class/hwmon", "hwmon2", &[&sensors[..], &others].concat());
    let pad =
        [("name", "Pad"), ("id/vendor", "045e"), ("capabilities/ev", "20000b"), ("event7/dev", "13:71")];
    tree.device("class/input", "input12", &pad);
    tree.device("class/input", "mouse0", &[]);
    let screen =
        [("status", "connected"), ("enabled", "enabled"), ("modes", "2880x1440\n2880x1440\n1440x720\n")];
    let connector = tree.device("class/drm", "card0-DP-1", &screen);
    fs::write(connector.join("edid"), edid(b"Visor One\n   ")).unwrap();
    tree.device("class/drm", "renderD128", &[]);

    let devices = tree.scan();
    let device =
        |id: &str| devices.iter().find(|device| device.id == id).unwrap_or_else(|| panic!("no {id}"));
    assert_eq!(devices.len(), 6, "{devices:?}");
    let zone = device("thermal/thermal_zone0");
    assert_eq!((zone.name.as_str(), zone.state.as_str()), ("cpu-thermal", "enabled"));
    assert!((float(zone, "temperature", "°C") - 48.25).abs() < 1e-12);
    assert!((float(zone, "trip.passive", "°C") - 85.0).abs() < 1e-12);
    assert!((float(zone, "trip.passive.1", "°C") - 95.0).abs() < 1e-12);
    assert_eq!(value(device("thermal/cooling_device3"), "level"), Value::Integer(2));
    let imu = device("iio/iio:device0");
    assert!((float(imu, "accel_x", "m/s²") + 9.806649).abs() < 1e-6);
    assert!((float(imu, "temp", "°C") - 25.125).abs() < 1e-9, "offset before scale, from thousandths");
    assert!((float(imu, "proximity", "") - 7.0).abs() < 1e-12);
    let board = device("hwmon/hwmon2");
    assert!((float(board, "SoC", "°C") - 41.0).abs() < 1e-12);
    assert!((float(board, "SoC.crit", "°C") - 100.0).abs() < 1e-12);
    assert!(
        (float(board, "temp2", "°C") - 42.0).abs() < 1e-12,
        "a label that is taken names one sensor only"
    );
    assert!((float(board, "fan1", "rpm") - 1480.0).abs() < 1e-12);
    assert!((float(board, "in0", "V") - 1.792).abs() < 1e-12);
    let pad = device("input/input12");
    assert_eq!(value(pad, "node"), Value::Text("/dev/input/event7".to_owned()));
    let gives = ["keys", "absolute axes", "force feedback"];
    assert_eq!(value(pad, "gives"), Value::Texts(gives.map(str::to_owned).into()));
    let screen = device("drm/card0-DP-1");
    assert_eq!((screen.name.as_str(), screen.state.as_str()), ("Visor One", "connected"));
    assert_eq!(value(screen, "modes"), Value::Texts(["2880x1440", "1440x720"].map(str::to_owned).into()));
}

fn edid(name: &[u8; 13]) -> Vec<u8> {
    let mut edid = vec![0, 255, 255, 255, 255, 255, 255, 0];
    edid.resize(128, 0);
    edid[72..77].copy_from_slice(&[0, 0, 0, 0xFC, 0]);
    edid[77..90].copy_from_slice(name);
    edid
}

#[test]
fn what_is_no_file_of_sysfs_is_left_out_and_holds_nothing_up() {
    let tree = Tree::new();
    let folder = tree.device("class/power_supply", "BAT0", &[("capacity", "5"), ("type", "")]);
    let name = folder.join("model_name");
    rustix::fs::mkfifoat(rustix::fs::CWD, &name, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    fs::create_dir(folder.join("status")).unwrap();
    symlink("health", folder.join("health")).unwrap();
    fs::write(tree.path("secret"), "secret").unwrap();
    symlink(tree.path("secret"), folder.join("manufacturer")).unwrap();
    symlink("/dev/zero", folder.join("technology")).unwrap();
    let huge = fs::File::create(folder.join("serial_number")).unwrap();
    huge.set_len(1 << 40).unwrap();
    fs::write(folder.join("cycle_count"), "9".repeat(4096)).unwrap();
    fs::write(folder.join("voltage_now"), "NaN").unwrap();
    fs::write(folder.join("current_now"), "inf").unwrap();
    fs::write(folder.join("power_now"), "1e400").unwrap();
    let unreadable = folder.join("scope");
    fs::write(&unreadable, "System").unwrap();
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    let began = Instant::now();
    let mut battery = tree.only();
    // Root reads it all the same.
    battery.properties.retain(|property| property.name != "scope");
    assert_eq!((battery.name.as_str(), battery.state.as_str()), ("BAT0", "present"));
    let names: Vec<&str> = battery.properties.iter().map(|property| property.name.as_str()).collect();
    assert_eq!(names, ["capacity"], "nothing else is a file of sysfs with a value in it");
    assert!(began.elapsed().as_secs() < 5, "nothing waited");
}

#[test]
fn a_text_that_could_act_on_a_terminal_or_is_no_utf8_is_shown_without_what_it_cannot_show() {
    let tree = Tree::new();
    let folder = tree.device("class/power_supply", "BAT0", &[]);
    fs::write(folder.join("model_name"), b"\x1b[2Jev\xffil\x07\0\n").unwrap();
    fs::write(folder.join("manufacturer"), b"one\ntwo\n").unwrap();
    let battery = tree.only();
    assert_eq!(battery.name, "\u{fffd}[2Jev\u{fffd}il\u{fffd}");
    assert_eq!(value(&battery, "manufacturer"), Value::Text("one".to_owned()));
}

#[test]
fn a_name_that_is_no_device_s_is_left_out() {
    let tree = Tree::new();
    tree.device("class/power_supply", "good one", &[("type", "UPS")]);
    let class = tree.path("class/power_supply");
    fs::create_dir(class.join(std::ffi::OsStr::from_bytes(b"b\xff\xfed"))).unwrap();
    fs::create_dir(class.join("line\nbreak")).unwrap();
    fs::write(class.join("a-file"), "x").unwrap();
    symlink("loop", class.join("loop")).unwrap();
    symlink("../power_supply", class.join("..loop")).unwrap();
    symlink("nowhere", class.join("dangling")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("type"), "Mains").unwrap();
    symlink(outside.path(), class.join("absolute")).unwrap();
    let up = "../".repeat(40) + outside.path().to_str().unwrap().trim_start_matches('/');
    symlink(up, class.join("up")).unwrap();
    symlink("/proc/self/root", class.join("magic")).unwrap();
    let ids: Vec<String> = tree.scan().into_iter().map(|device| device.id).collect();
    assert_eq!(
        ids,
        ["power_supply/..loop", "power_supply/good one"],
        "what lies in the tree, and nothing else"
    );
}

#[test]
fn ten_thousand_devices_are_counted_and_as_many_kept_as_there_is_room_for() {
    // Where ten thousand folders are made and removed in memory, if there is such a place.
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let tree = Tree(memory.unwrap());
    let class = tree.path("class/power_supply");
    fs::create_dir_all(&class).unwrap();
    (0..10_000).for_each(|number| fs::create_dir(class.join(format!("BAT{number:05}"))).unwrap());
    tree.device("class/thermal", "thermal_zone0", &[]);
    let began = Instant::now();
    let found = scan(tree.0.path(), 1024).unwrap();
    let took = began.elapsed();
    assert_eq!((found.devices.len(), found.left_out), (1024, 10_001 - 1024));
    assert_eq!(found.devices[1023].id, "power_supply/BAT01023", "the same ones at every look");
    assert!(took.as_secs() < 10, "{took:?}");
}

#[test]
fn devices_that_come_and_go_while_they_are_read_are_read_whole_or_not_at_all() {
    let tree = Tree::new();
    let folder = tree.device("class/power_supply", "BAT0", &[("type", "Battery")]);
    let link = tree.path("class/power_supply/BAT0");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::write(folder.join("status"), "Full").unwrap();
                fs::remove_file(folder.join("status")).unwrap();
                fs::remove_file(&link).unwrap();
                symlink("../../devices/virtual/class_power_supply/BAT0", &link).unwrap();
            }
        });
        let looks = scope.spawn(|| {
            for device in (0..2_000).flat_map(|_| tree.scan()) {
                assert_eq!(value(&device, "type"), Value::Text("Battery".to_owned()));
                assert!(device.state == "full" || device.state == "present");
            }
        });
        let outcome = looks.join();
        over.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn a_tree_that_is_not_there_is_an_error_and_an_empty_one_is_not() {
    let tree = Tree::new();
    assert!(scan(&tree.path("sys"), 10).is_err());
    fs::write(tree.path("file"), "").unwrap();
    assert!(scan(&tree.path("file"), 10).is_err());
    assert!(tree.scan().is_empty());
}

#[test]
fn the_machine_s_own_tree_can_be_read() {
    if let Ok(found) = scan(Path::new("/sys"), 1024) {
        for device in found.devices {
            assert!(device.id.starts_with(&format!("{}/", device.kind)), "{device:?}");
        }
    }
}
