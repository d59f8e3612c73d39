//! Lines with a key, attacked frame by frame: played back, put out of order, changed, of other channels, without the key.
//! [`keyed_lines`](crate::keyed_lines) has the same byte by byte, with the board of the examples.

use visorbus_core::auth::Key;
use visorbus_core::message::MessagePayload;
use visorbus_core::secure::{LinkKey, Suite};
use visorbus_hub::info::PeerInfo;
use visorbus_tests::raw_peer::RawPeer;

use crate::tape::Tape;
use crate::transports::{Keyed, LINK_SECRET, link_key, over_every_line_with_a_key};
use crate::world::{World, hello};

over_every_line_with_a_key! {
    a_request_that_is_played_back_is_done_once
    frames_out_of_order_do_nothing_twice
    a_frame_with_any_bit_flipped_or_any_byte_cut_off_does_nothing
    frames_of_another_channel_do_nothing
    what_the_hub_said_is_not_taken_for_the_board_s
    a_board_with_another_suite_or_secret_is_not_heard
    a_board_that_speaks_in_the_clear_is_not_heard
}

fn a_request_that_is_played_back_is_done_once<T: Keyed>() {
    let world = World::start();
    let (mut imu, tape) = admitted::<T>(&world);
    tape.take_to_hub();
    assert!(imu.request("vault/open", MessagePayload::Empty).is_ok());
    let said = tape.take_to_hub();
    for _ in 0..5 {
        tape.inject(said.iter().cloned());
    }
    tape.wait_for_injected();
    // On a busy machine the two may have made a channel anew meanwhile: then they are of another one.
    let imu = wait_for_faults(&world, "imu", &["replayed", "bad_tag"], said.len() as u64 * 2);
    assert_eq!((imu.sessions, imu.authenticated), (1, true), "{imu:?}");
    world.is_unharmed_after(1);
}

fn frames_out_of_order_do_nothing_twice<T: Keyed>() {
    let world = World::start();
    let (mut imu, tape) = admitted::<T>(&world);
    tape.take_to_hub();
    tape.cut(true);
    let ids = [(); 2].map(|()| imu.send_request("vault/open", MessagePayload::Empty));
    tape.wait_for(2);
    let mut said = tape.take_to_hub();
    said.reverse();
    tape.inject(said.clone());
    tape.wait_for_injected();
    wait_for_faults(&world, "imu", &["replayed"], 1);
    tape.cut(false);
    // What the key has dropped the lane sends again.
    for id in ids {
        assert!(imu.answer_to(id).is_ok());
    }
    tape.inject(said);
    wait_for_faults(&world, "imu", &["replayed"], 3);
    assert!(imu.request("vault/open", MessagePayload::Empty).is_ok());
    world.is_unharmed_after(3);
}

fn a_frame_with_any_bit_flipped_or_any_byte_cut_off_does_nothing<T: Keyed>() {
    let world = World::start();
    let (mut imu, tape) = admitted::<T>(&world);
    tape.take_to_hub();
    tape.cut(true);
    let id = imu.send_request("vault/open", MessagePayload::String("open, please"));
    tape.wait_for(1);
    let said = tape.take_to_hub().remove(0);
    let flip = |bit: usize| {
        let mut forged = said.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        forged
    };
    tape.inject((0..said.len() * 8).map(flip));
    tape.inject((1..said.len()).map(|len| said[..len].to_vec()));
    tape.inject([[&said[..], &[0]].concat()]);
    tape.wait_for_injected();
    wait_for_faults(&world, "imu", &["bad_tag", "replayed", "unkeyed", "bad_key"], said.len() as u64 * 8);
    world.is_unharmed();
    tape.cut(false);
    assert!(imu.answer_to(id).is_ok(), "the board is served as if nothing had been");
    world.is_unharmed_after(1);
    assert_eq!(peer(&world, "imu").unwrap().sessions, 1);
}

fn frames_of_another_channel_do_nothing<T: Keyed>() {
    let world = World::start();
    let (mut imu, tape) = admitted::<T>(&world);
    assert!(imu.request("vault/open", MessagePayload::Empty).is_ok());
    // All that it ever said: the handshake, hello, its token, the request.
    let recorded = tape.take_to_hub();
    // Another board's line, and then a new channel of the same board.
    for name in ["radio", "imu"] {
        if name == "imu" {
            imu.notify(visorbus_core::bus::GOODBYE, MessagePayload::Empty);
            world.wait_until(|peers| peers.iter().all(|peer| peer.name != "imu"));
        }
        let (mut other, tape) = T::attach_with(&world, Some(link_key(name)));
        hello::<T>(&mut other, name, 2).unwrap();
        tape.inject(recorded.iter().cloned());
        tape.wait_for_injected();
        let other = wait_for_faults(&world, name, &["bad_tag", "replayed"], 3);
        assert_eq!(other.sessions, 1, "{other:?}");
    }
    world.is_unharmed_after(1);
}

fn what_the_hub_said_is_not_taken_for_the_board_s<T: Keyed>() {
    let world = World::start();
    let (mut imu, tape) = admitted::<T>(&world);
    assert!(imu.request("vault/open", MessagePayload::Empty).is_ok());
    let said = tape.take_from_hub();
    tape.inject(said.iter().cloned());
    tape.wait_for_injected();
    // By their numbers some are as old, and some as new, as the board's own.
    let before = wait_for_faults(&world, "imu", &["bad_tag", "replayed"], said.len() as u64 / 2);
    assert_eq!(before.sessions, 1);
    world.is_unharmed_after(1);
}

fn a_board_with_another_suite_or_secret_is_not_heard<T: Keyed>() {
    // The suite goes with the key: nobody can ask for another one, and with another one the two ends have no keys in common.
    let downgraded = LinkKey::new(1, Suite::Sealed, "imu", Key::new(LINK_SECRET)).unwrap();
    let guessed = LinkKey::new(1, Suite::Tag64, "imu", Key::new([7; 32])).unwrap();
    let retired = LinkKey::new(2, Suite::Tag64, "imu", Key::new(LINK_SECRET)).unwrap();
    for (key, is_told) in [(downgraded, false), (guessed, true), (retired, true)] {
        let world = World::start();
        let (mut imu, tape) = T::attach_with(&world, Some(key));
        imu.send_request(visorbus_core::bus::HELLO, hello_payload().borrow());
        tape.wait_for(3);
        if is_told {
            wait_for_faults(&world, "", &["bad_key"], 1);
        }
        let nobody = peer(&world, "").unwrap();
        assert_eq!((nobody.sessions, nobody.authenticated), (0, false), "{nobody:?}");
        assert!(peer(&world, "imu").is_none());
        world.is_unharmed();
    }
}

fn a_board_that_speaks_in_the_clear_is_not_heard<T: Keyed>() {
    let world = World::start();
    let (mut imu, tape) = T::attach_with(&world, None);
    let token = world.token("imu", &["*"]);
    for _ in 0..3 {
        imu.send_request(visorbus_core::bus::HELLO, hello_payload().borrow());
        let shown = visorbus_core::bus::Credentials::Token(&token);
        imu.send_request(
            visorbus_core::bus::AUTHENTICATE,
            visorbus_hub::OwnedPayload::postcard(&shown).unwrap().borrow(),
        );
        imu.send_request("vault/open", MessagePayload::Empty);
    }
    tape.wait_for(9);
    let nobody = wait_for_faults(&world, "", &["unkeyed"], 1);
    assert_eq!((nobody.sessions, nobody.authenticated), (0, false), "{nobody:?}");
    assert!(peer(&world, "imu").is_none());
    world.is_unharmed();
}

/// The board `imu` with its key and a token, and what goes over its wire.
fn admitted<T: Keyed>(world: &World) -> (RawPeer, Tape) {
    let (mut imu, tape) = T::attach_with(world, Some(link_key("imu")));
    hello::<T>(&mut imu, "imu", 1).unwrap();
    imu.authenticate(&world.token("imu", &["request:vault/*"])).unwrap();
    (imu, tape)
}

/// Waits until the faults of these names on the line of `name`, or of nobody, are so many together.
#[track_caller]
fn wait_for_faults(world: &World, name: &str, faults: &[&str], count: u64) -> PeerInfo {
    let found = |peer: &PeerInfo| {
        let counted = peer.faults.iter().filter(|fault| faults.contains(&&*fault.name));
        counted.map(|fault| fault.count).sum::<u64>() >= count
    };
    world.wait_until(|peers| peers.iter().any(|peer| is_of(peer, name) && found(peer)));
    peer(world, name).unwrap()
}

fn peer(world: &World, name: &str) -> Option<PeerInfo> {
    world.handle.peers().unwrap().into_iter().find(|peer| is_of(peer, name))
}

/// A line on which nobody has proven anything goes by what it is.
fn is_of(peer: &PeerInfo, name: &str) -> bool {
    peer.name == name || (name.is_empty() && peer.name == peer.origin && !peer.origin.starts_with("unix"))
}

fn hello_payload() -> visorbus_hub::OwnedPayload {
    visorbus_hub::OwnedPayload::postcard(&visorbus_tests::raw_peer::identity("imu")).unwrap()
}
