//! A service on a hub that runs already: it comes, goes and comes again, and the hub's others do not notice.

use visorbus_core::message::MessagePayload;
use visorbus_dbus::{BusAddress, DBusService};
use visorbus_tests::patience::wait_until;

use crate::thermostat::{NAME, Room, Thermostat};
use crate::world::{PATH, SERVICE, World};

/// Of another service of the same bus.
const OTHER: &str = "org.example.Second1";

#[test]
fn a_service_over_a_running_hub_goes_with_its_interfaces_and_comes_back() {
    let world = World::with_panel("\"request:**\"");
    let hub = world.service.handle();
    let mut peer = world.peer("peer", &["*"]);
    for round in 0..3 {
        let mut second = second(&world);
        let room = Room::default();
        let (thermostat, _release) = Thermostat::called(OTHER, &room);
        second.register_interface(thermostat).unwrap();
        second.start().unwrap();
        wait_until("it has its name", || second.state().is_some_and(|state| state.owns_name));
        let program = world.program();
        let calls = || program.call_of("org.visorbus.Second1", "/org/visorbus/Second1", OTHER, "Who");
        assert_eq!(calls(), Ok(vec!["panel".into()]), "round {round}");
        assert_eq!(second.active_connections().unwrap().len(), 1, "the peer is none of its programs");
        assert!(world.service.active_connections().unwrap().contains(&"peer".to_owned()));
        second.stop().unwrap();
        // The daemon may hear of the call before it hears that the service is gone.
        wait_until("its name is nobody's", || {
            calls().is_err_and(|(error, _)| error.ends_with("ServiceUnknown"))
        });
        let gone = peer.request("org.example.second1/who", MessagePayload::Empty);
        assert!(gone.unwrap_err().text().contains("nobody serves"), "round {round}");
        world.is_unharmed();
    }
    assert!(hub.active_connections().unwrap().contains(&"peer".to_owned()));
}

#[test]
fn a_service_that_is_dropped_before_it_serves_leaves_no_interface() {
    let world = World::with_panel("\"request:**\"");
    let mut peer = world.peer("peer", &["*"]);
    let mut second = second(&world);
    second.register_interface(Thermostat::called(OTHER, &Room::default()).0).unwrap();
    drop(second);
    let gone = peer.request("org.example.second1/who", MessagePayload::Empty);
    assert!(gone.unwrap_err().text().contains("nobody serves"));
    world.is_unharmed();
}

#[test]
fn a_hub_that_ends_in_good_order_answers_the_calls_of_the_bus_before() {
    let world = World::with_panel("\"request:org.example.thermostat1/**\"");
    let program = world.program();
    let call = program.begin(NAME, "Stuck", &[]);
    wait_until("the method runs", || world.runs() == 1);
    let hub = world.service.handle();
    let ending = std::thread::spawn(move || hub.shutdown(visorbus_tests::patience::PATIENCE));
    let late = world.program();
    wait_until("it has begun to end", || late.call(NAME, "Who", &[]).is_err());
    world.release.send(()).unwrap();
    assert_eq!(program.answer(call), Ok(vec!["late".into()]));
    assert_eq!(ending.join().unwrap(), Ok(()));
    wait_until("its name is nobody's", || {
        world.program().call(NAME, "Who", &[]).is_err_and(|(error, _)| error.ends_with("ServiceUnknown"))
    });
}

fn second(world: &World) -> DBusService {
    let (name, path) = (SERVICE.replace("Bus1", "Second1"), PATH.replace("Bus1", "Second1"));
    let mut service = DBusService::over(name, path, world.service.handle());
    service.set_bus(BusAddress::Address(world.bus.address().to_owned())).unwrap();
    service
}
