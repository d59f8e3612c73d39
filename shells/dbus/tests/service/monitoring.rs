//! `org.visorbus.Monitoring1` on a real bus: what is measured, what is watched, and who is told of it.

use std::time::Duration;

use dbus::arg::messageitem::MessageItemArray;
use visorbus_dbus::{MessageItem, MonitoringInterface};
use visorbus_services::Listening;
use visorbus_services::monitoring::{Metric, MonitoringConfig, MonitoringManager};
use visorbus_tests::patience::wait_until;

use crate::program::expect_refusal;
use crate::world::World;

const MONITORING: &str = "org.visorbus.Monitoring1";

/// More figures of one name than any answer has.
fn figures() -> Vec<Metric> {
    (0..FIGURES).map(|number| Metric::gauge("test.figure", 1.0).with("number", &number.to_string())).collect()
}

const FIGURES: usize = 100;

/// A bus with the interface, where whoever runs the test may do this.
fn monitored(allow: &str) -> (World, MonitoringManager, Listening) {
    let world = World::with_panel(allow);
    let interval = Duration::from_millis(100);
    let config = MonitoringConfig { interval, thresholds: Vec::new(), ..MonitoringConfig::default() };
    let manager = MonitoringManager::new(config, world.service.handle(), vec![Box::new(figures)]).unwrap();
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
    world.is_unharmed();
}

/// The array of an answer, and how many more there are.
fn cut_short(answer: Vec<MessageItem>) -> (usize, u32) {
    let [MessageItem::Array(all), MessageItem::UInt32(more)] = answer.as_slice() else {
        panic!("{answer:?}")
    };
    (all.len(), *more)
}

#[test]
fn what_one_answer_has_no_room_for_is_counted() {
    let (world, manager, _listening) = monitored(ALL);
    let program = world.program();
    let ask = |member: &str, args: &[MessageItem]| cut_short(program.call(MONITORING, member, args).unwrap());
    assert_eq!(ask("ListAlerts", &[]), (0, 0));
    assert_eq!(ask("GetHistory", &["hub.peers".into(), 0u32.into(), 5u32.into()]), (1, 0));
    manager.set_threshold("test.figure > 0: info".parse().unwrap()).unwrap();
    wait_until("all are raised", || manager.alerts().len() == FIGURES);
    assert_eq!(ask("ListAlerts", &[]), (64, 36));
    assert_eq!(ask("GetHistory", &["test.figure".into(), 0u32.into(), 5u32.into()]), (16, 84));
}

#[test]
fn every_property_tells_that_it_has_changed_and_the_description_says_that_no_value_comes() {
    let (world, manager, _listening) = monitored(ALL);
    let program = world.program();
    let xml = program.call("org.freedesktop.DBus.Introspectable", "Introspect", &[]).unwrap();
    let [MessageItem::Str(xml)] = xml.as_slice() else { panic!("{xml:?}") };
    let ours = &xml[xml.find(&format!("<interface name=\"{MONITORING}\">")).unwrap()..];
    let ours = &ours[..ours.find("</interface>").unwrap()];
    let noted = ours.matches("Property.EmitsChangedSignal\" value=\"invalidates\"").count();
    assert_eq!((noted, ours.matches("<property ").count()), (4, 4), "{ours}");

    assert_eq!(program.get(MONITORING, "Interval"), Ok(100u32.into()));
    let told = || match program.signal("PropertiesChanged").1.as_slice() {
        [MessageItem::Str(of), MessageItem::Dict(values), MessageItem::Array(without)] => {
            assert!(of == MONITORING && values.is_empty(), "{values:?}");
            without.to_vec()
        }
        other => panic!("{other:?}"),
    };
    let config = manager.config();
    manager.reconfigure(MonitoringConfig { max_series: 100, ..config.clone() });
    manager.reconfigure(MonitoringConfig { interval: Duration::from_millis(200), ..config });
    assert_eq!(told(), ["Interval".into()], "and nothing of what is as it was");
    assert_eq!(program.get(MONITORING, "Interval"), Ok(200u32.into()));
    manager.set_threshold("hub.uptime_seconds >= 0: critical".parse().unwrap()).unwrap();
    let mut changed = [told(), told(), told()].concat();
    changed.sort_by_key(|name| format!("{name:?}"));
    assert_eq!(changed, ["Alerts".into(), "Health".into(), "HealthReasons".into()]);
    assert_eq!(program.get(MONITORING, "Alerts"), Ok(1u32.into()));
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
