//! A hub that has its socket and does not answer: whoever asks from outside is told why.

use nix::sys::signal::Signal;

use crate::place::Place;

#[test]
fn a_hub_that_is_stopped_is_named_with_its_process_and_what_has_it_go_on() {
    let place = Place::new();
    let hub = place.serve(&[]);
    let fits = |text: &str| text.contains(&format!("process {} does not answer: it is stopped", hub.pid()));
    let mend = format!("`kill -CONT {}`", hub.pid());
    hub.signal(Signal::SIGSTOP);
    let status = place.run(&["status"]);
    assert!(status.code == Some(5) && fits(&status.err) && status.err.contains(&mend), "{status:?}");
    let doctor = place.run(&["doctor"]);
    assert!(doctor.code == Some(1) && fits(&doctor.out) && doctor.out.contains(&mend), "{doctor:?}");
    assert!(!doctor.out.contains("a hub answers"), "{}", doctor.out);
    hub.signal(Signal::SIGCONT);
    place.succeed(&["status"]);
    assert!(place.run(&["doctor"]).out.contains("a hub answers"));
}
