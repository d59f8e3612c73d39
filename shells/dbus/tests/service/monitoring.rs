//! `org.visorbus.Monitoring1` on a real bus: what is measured, what is watched, and who is told of it.

use std::time::Duration;

use dbus::arg::messageitem::MessageItemArray;
use visorbus_dbus::{MessageItem, MonitoringInterface};
use visorbus_services::Listening;
use visorbus_services::monitoring::{MonitoringConfig, MonitoringManager};
use visorbus_tests::patience::wait_until;

use crate::program::expect_refusal;
use crate::world::World;

const MONITORING: &str = "org.visorbus.Monitoring1";

/// A bus with the interface, where whoever runs the test may do this.
fn monitored(allow: &str) -> (World, MonitoringManager, Listening) {
    let world = World::with_panel(allow);
    let interval = Duration::from_millis(100);
    let config = MonitoringConfig { interval, thresholds: Vec::new(), ..MonitoringConfig::default() };
    let manager = MonitoringManager::new(config, world.service.handle(), Vec::new()).unwrap();
    let listening = MonitoringInterface::register(&manager, &world.service.door().unwrap()).unwrap();
    wait_until("something is measured", || !manager.sample().metrics.is_empty());
    (world, manager, listening)
}

const ALL: &str = "\"request:org.visorbus.monitoring1/**\", \"subscribe:org.visorbus.monitoring1/**\"";

#[test]
fn figures_are_read_and_a_threshold_that_is_passed_is_told() {
    let (world, _manager, _listening) = monitored(ALL);
    let program = world.program();
    program.listen(MONITORING);
    let values = program.call(MONITORING, "GetMetrics", &["hub.*".into()]).unwrap();
    let [MessageItem::Dict(values)] = values.as_slice() else { panic!("{values:?}") };
    assert!(values.iter().any(|(name, _)| *name == "hub.uptime_seconds".into()), "{values:?}");
    assert_eq!(program.get(MONITORING, "Health"), Ok("ok".into()));
    assert_eq!(program.get(MONITORING, "Interval"), Ok(100u32.into()));
    let text = "hub.uptime_seconds >= 0: critical";
    assert_eq!(program.call(MONITORING, "SetThreshold", &[text.into()]), Ok(vec!["".into()]));
    let (_, told) = program.signal("Alert");
    assert_eq!(told[..3], [true.into(), "critical".into(), "hub.uptime_seconds".into()]);
    wait_until("it is failing", || program.get(MONITORING, "Health") == Ok("failing".into()));
    assert_eq!(program.get(MONITORING, "Alerts"), Ok(1u32.into()));
    let all = program.call(MONITORING, "ListThresholds", &[]).unwrap();
    assert!(format!("{all:?}").contains("\"raised\""), "{all:?}");
    assert_eq!(program.call(MONITORING, "RemoveThreshold", &[text.into()]), Ok(vec![1u32.into()]));
    assert_eq!(program.signal("Alert").1[0], false.into());
    let no_texts = MessageItem::Array(MessageItemArray::new(Vec::new(), "as".into()).unwrap());
    assert_eq!(program.get(MONITORING, "HealthReasons"), Ok(no_texts));
    for (member, args) in
        [("ListAlerts", vec![]), ("GetHistory", vec!["hub.peers".into(), 0u32.into(), 5u32.into()])]
    {
        assert!(program.call(MONITORING, member, &args).is_ok(), "{member}");
    }
    world.is_unharmed();
}

#[test]
fn whoever_may_not_is_told_nothing_and_what_is_wrong_changes_nothing() {
    let (world, manager, _listening) = monitored("\"request:org.visorbus.monitoring1/get-metrics\"");
    let program = world.program();
    expect_refusal(program.call(MONITORING, "SetThreshold", &["hub.peers > 0".into()]), "AccessDenied", "");
    expect_refusal(program.get(MONITORING, "Health"), "AccessDenied", "");
    expect_refusal(program.call(MONITORING, "Prometheus", &[]), "AccessDenied", "");
    expect_refusal(program.call(MONITORING, "GetMetrics", &["No Such".into()]), "", "no metric's name");
    expect_refusal(program.call(MONITORING, "GetMetrics", &[1u32.into()]), "InvalidArgs", "'s'");
    assert!(manager.config().thresholds.is_empty());
    world.is_unharmed();
}
