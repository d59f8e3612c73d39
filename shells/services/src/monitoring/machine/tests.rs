use std::os::unix::fs::symlink;

use super::*;

/// A tree like `/proc`, as far as it is read.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let tree = tempfile::TempDir::new().unwrap();
    fs::create_dir_all(tree.path().join("self/fd")).unwrap();
    for (name, text) in files {
        fs::write(tree.path().join(name), text).unwrap();
    }
    tree
}

fn value(metrics: &[Metric], name: &str) -> Option<f64> {
    metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

fn stat(user: u64, idle: u64) -> String {
    format!("cpu {user} 0 0 {idle} 0 0 0 0 0 0\nctxt 1\nbtime 1000\nprocesses 5\n")
}

const AT: Duration = Duration::from_secs(1);

#[test]
fn this_machine_and_this_process_are_measured() {
    let mut machine = Machine::new(PathBuf::from("/proc"));
    machine.read(AT);
    let metrics = machine.read(2 * AT);
    for name in [
        "machine.load1",
        "machine.memory_percent",
        "machine.uptime_seconds",
        "process.cpu_seconds",
        "process.cpu_percent",
        "process.resident_memory_bytes",
        "process.open_fds",
        "process.max_fds",
        "process.start_time_seconds",
    ] {
        let value = value(&metrics, name).unwrap_or_else(|| panic!("no {name} in {metrics:?}"));
        assert!(value.is_finite() && value >= 0.0, "{name}: {value}");
        assert!(crate::monitoring::describe(name).is_some(), "{name}");
    }
    assert!(value(&metrics, "process.resident_memory_bytes").unwrap() > 100_000.0);
}

#[test]
fn processors_are_busy_by_what_they_did_since_the_last_time() {
    let tree = tree(&[("stat", &stat(100, 900))]);
    let mut machine = Machine::new(tree.path().to_owned());
    assert_eq!(value(&machine.read(AT), "machine.cpu_percent"), None);
    fs::write(tree.path().join("stat"), stat(175, 925)).unwrap();
    assert_eq!(value(&machine.read(2 * AT), "machine.cpu_percent"), Some(75.0));
    // Nothing passed, or it went back: nothing is said.
    assert_eq!(value(&machine.read(3 * AT), "machine.cpu_percent"), None);
    fs::write(tree.path().join("stat"), stat(1, 2)).unwrap();
    assert_eq!(value(&machine.read(4 * AT), "machine.cpu_percent"), None);
}

#[test]
fn what_is_missing_garbled_or_endless_is_left_out_and_the_rest_is_there() {
    let long = "a".repeat(2 << 20);
    let tree = tree(&[
        ("loadavg", "0.25 0.5 0.75 1/2 3\n"),
        ("meminfo", "MemTotal: many kB\n"),
        ("uptime", "\u{feff}soon"),
        ("stat", &long),
        ("self/stat", "1 (x"),
        ("self/limits", ""),
    ]);
    let metrics = Machine::new(tree.path().to_owned()).read(AT);
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["machine.load1", "machine.load5", "process.open_fds"]);
    symlink("loadavg2", tree.path().join("loadavg2")).unwrap();
    fs::remove_file(tree.path().join("loadavg")).unwrap();
    fs::create_dir(tree.path().join("loadavg")).unwrap();
    assert_eq!(Machine::new(tree.path().to_owned()).read(AT).len(), 1);
    assert_eq!(Machine::new(tree.path().join("nowhere")).read(AT), []);
}

#[test]
fn a_machine_without_memory_has_no_share_of_it_in_use() {
    let tree = tree(&[(
        "meminfo",
        "MemTotal: 0 kB\nMemFree: 0 kB\nMemAvailable: 9 kB\nBuffers: 0 kB\nCached: 0 kB\nSwapCached: 0 kB\nActive: 0 kB\nInactive: 0 kB\nSwapTotal: 0 kB\nSwapFree: 5 kB\nDirty: 0 kB\nWriteback: 0 kB\nMapped: 0 kB\nSlab: 0 kB\nCommitted_AS: 0 kB\nVmallocTotal: 0 kB\nVmallocUsed: 0 kB\nVmallocChunk: 0 kB\n",
    )]);
    let metrics = Machine::new(tree.path().to_owned()).read(AT);
    assert_eq!(value(&metrics, "machine.memory_percent"), None);
    assert_eq!(value(&metrics, "machine.swap_used_bytes"), Some(0.0));
}
