//! The reference of the handlers: its addresses are those of a hub, its examples work.

use std::collections::BTreeSet;

use crate::page;
use crate::script::{Desk, Step, steps};

#[test]
fn the_examples_of_the_handlers_work_and_their_addresses_are_those_of_a_hub() {
    let page = page("handlers.md");
    let examples = steps(&page);
    assert!(examples.len() > 30, "{}", examples.len());
    let mut all = Desk::hub_with_board();
    all.extend(examples);
    all.push(Step::new("visorbus services --json > services.json"));
    for interface in INTERFACES {
        all.push(Step::new(&format!(
            "busctl --user introspect org.visorbus.Bus1 /org/visorbus/Bus1 {interface} > {interface}"
        )));
    }
    // The page for Prometheus, with the token that the daemon's page makes and without one.
    all.extend(steps(&crate::page("daemon.md")));
    let fetch = r#"fetch("http://127.0.0.1:7400/metrics", { headers }).then(async (answer) =>
        console.log(answer.status, (await answer.text()).includes("visorbus_hub_peers ")))"#;
    for (headers, expected) in
        [("{ authorization: `Bearer ${process.argv[1].trim()}` }", "200 true"), ("{}", "401 false")]
    {
        let command = format!("node --eval 'const headers = {headers}; {fetch}' \"$(< visorbus.token)\"");
        all.push(Step { command, expected: vec![expected.to_owned()] });
    }
    let desk = Desk::new();
    desk.run(&all, false);

    let services = std::fs::read_to_string(desk.work().join("services.json")).unwrap();
    let services: Vec<serde_json::Value> = serde_json::from_str(&services).unwrap();
    let standard = |service: &&serde_json::Value| {
        ["config", "hardware", "monitoring", "manager"].iter().any(|name| service["component"] == *name)
    };
    let served: BTreeSet<String> = services
        .iter()
        .filter(standard)
        .flat_map(|service| service["addresses"].as_array().unwrap())
        .map(|address| address["address"].as_str().unwrap().to_owned())
        // One for each key.
        .map(|address| match address.strip_prefix("config/changed/") {
            Some(_) => "config/changed/CATEGORY/KEY".to_owned(),
            None => address,
        })
        .collect();
    // What stands first in a row of a table, and the topics.
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let topics = page.split("\nTopic").skip(1).flat_map(|rest| {
        let paragraph = rest.split("\n\n").next().unwrap_or(rest);
        paragraph.split('`').skip(1).step_by(2)
    });
    let described: BTreeSet<String> = rows
        .chain(topics)
        .filter(|word| {
            ["config/", "hardware/", "monitoring/", "manager/"].iter().any(|of| word.starts_with(of))
        })
        // The same with the key in it.
        .filter(|word| !word.ends_with("/CATEGORY/KEY") || word.starts_with("config/changed"))
        .map(str::to_owned)
        .collect();
    assert_eq!(described, served);

    for interface in INTERFACES {
        let shown = std::fs::read_to_string(desk.work().join(interface)).unwrap();
        // `.GetValue  method  ss  v  -`
        let members = shown.lines().filter_map(|line| line.strip_prefix('.')?.split_whitespace().next());
        let members: BTreeSet<&str> = members.collect();
        let section = page.split(&format!("\n### {interface}\n")).nth(1).expect("its section");
        let section = section.split("\n#").next().unwrap_or(section);
        let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
        let described: BTreeSet<&str> = rows.filter_map(|line| line.split('`').nth(1)).collect();
        assert_eq!(described, members, "{interface}");
    }
}

const INTERFACES: [&str; 3] = ["org.visorbus.Config1", "org.visorbus.Hardware1", "org.visorbus.Monitoring1"];
