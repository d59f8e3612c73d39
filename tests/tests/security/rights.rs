//! Somebody known who reaches for what is not theirs: other names, other addresses, other subscriptions, more often than
//! they may.

use std::time::Instant;

use visorbus_auth::AuditKind;
use visorbus_core::auth::Access;
use visorbus_core::bus::{self, Announce, RowInfo, RowKind};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_hub::info::InterfaceInfo;
use visorbus_hub::{OwnedMessage, OwnedPayload};
use visorbus_tests::raw_peer::{RawPeer, expect_error, frame_of};

use crate::transports::{Transport, Unix, over_every_transport};
use crate::world::{Says, World, hello};

over_every_transport! {
    a_forged_source_is_refused
    a_star_is_one_segment_and_no_trick_makes_it_more
    what_is_no_address_reaches_nobody
    a_subscription_to_what_one_may_not_read_is_refused
    a_name_that_one_may_not_hold_is_refused
    a_rate_is_not_evaded_by_coming_again
    what_a_policy_allows_elsewhere_or_shorter_is_refused_here
    a_hello_of_another_version_is_refused_and_opens_nothing
    what_one_may_not_use_is_not_shown
}

fn what_one_may_not_use_is_not_shown<T: Transport>() {
    let world = World::start();
    let mut owner = world.admitted::<Unix>("owner", &["register:hidden"]);
    owner.register("hidden").unwrap();
    for address in ["owner/x", "hidden/x"] {
        let (hash, access) = (7, Access::Permission);
        let row =
            RowInfo { kind: RowKind::Endpoint, address, access, request_hash: hash, response_hash: hash };
        let told = Announce { row, request_schema: &[], response_schema: &[] };
        owner.request(bus::ANNOUNCE, OwnedPayload::postcard(&told).unwrap().borrow()).unwrap();
    }
    let mut mallory = world.admitted::<T>("mallory", &["request:owner/y", "notify:config/**", "register:*"]);
    let all = mallory.request(bus::INTERFACES, MessagePayload::Empty).unwrap();
    assert_eq!(all.payload.parse(), Ok(Vec::<InterfaceInfo>::new()));
    for name in ["owner", "hidden", "absent", "vault", "config", "bystander", "auditor", "mallory"] {
        let text = format!("there is no component '{name}' that you may use");
        let outcome = mallory.request(bus::INTERFACES, MessagePayload::String(name));
        expect_error(outcome, ErrorKind::Message, &text);
    }
    // One's own is told of, by name and among all; a line's frames are too short for that.
    let mut known = world.admitted::<Unix>("known", &["request:owner/x"]);
    for payload in [MessagePayload::Empty, MessagePayload::String("owner")] {
        let told: Vec<InterfaceInfo> =
            known.request(bus::INTERFACES, payload).unwrap().payload.parse().unwrap();
        assert_eq!((told.len(), told[0].addresses.len()), (1, 1));
        assert_eq!(told[0].addresses[0].address, "owner/x");
    }
    world.is_unharmed();
}

fn a_forged_source_is_refused<T: Transport>() {
    let world = World::start();
    let mut owner = world.admitted::<Unix>("owner", &[]);
    let mut mallory = world.admitted::<T>("mallory", &["*"]);
    for forged in
        ["owner", "owner/x", "bus", "vault", "nobody", "mallor", "malloryx", "malloryx/y", "mallory.x"]
    {
        let id = mallory.take_id();
        let source = Some(Address::new(forged).unwrap());
        mallory.send(&Message { source, ..request(id, "vault/open") });
        let text = "the source is not this session's own";
        expect_error(mallory.answer_to(id), ErrorKind::Authorization, text);
        // Nor does a notification go anywhere, though nobody is told.
        mallory.send(&Message { source, ..Message::notification(0, Address::new("owner/news").unwrap()) });
    }
    world.is_audited::<T>(AuditKind::Denied, "mallory", "the source is not this session's own");
    assert!(owner.read_so_far().is_empty());
    world.is_unharmed();
}

fn a_star_is_one_segment_and_no_trick_makes_it_more<T: Transport>() {
    let world = World::start();
    let mut mallory = world.admitted::<T>("mallory", &["request:config/*"]);
    assert!(mallory.request("config/a", MessagePayload::Empty).is_ok());
    for address in
        ["config/a/b", "config", "config/a/b/c", "config.x/a", "configx/a", "vault/open", "vault/config/a"]
    {
        let id = mallory.take_id();
        mallory.send(&request(id, address));
        let outcome = mallory.answer_to(id);
        assert!(outcome.is_err(), "{address}: {outcome:?}");
        if address.starts_with("config/") || address.starts_with("vault/") {
            expect_error(outcome, ErrorKind::Authorization, "no permission of the token allows 'request'");
        }
    }
    let event = world.is_audited::<T>(AuditKind::Denied, "mallory", "no permission");
    assert_eq!((event.operation.as_str(), event.resource.as_str()), ("request", "config/a/b"));
    // Neither does a notification, whose sender is told nothing.
    mallory.notify("config/a/b", MessagePayload::Empty);
    mallory.notify("config/a", MessagePayload::Empty);
    assert!(mallory.heard().is_empty());
    world.is_unharmed_after(1);
}

fn what_is_no_address_reaches_nobody<T: Transport>() {
    if !T::HAS_FRAMES {
        return;
    }
    let world = World::start();
    let mut mallory = world.admitted::<T>("mallory", &["request:config/*"]);
    let before = world.refused();
    let mut id = 1000;
    for bad in NO_ADDRESSES {
        id += 1;
        let frame = frame_to(id, bad);
        mallory.write_frame(&frame);
        let outcome = mallory.answer_to(id);
        expect_error(outcome, ErrorKind::Protocol, "");
        // The same for a pattern, which travels in a payload.
        if let Ok(pattern) = std::str::from_utf8(bad) {
            let outcome = mallory.subscribe(pattern);
            expect_error(outcome, ErrorKind::Message, "is not a pattern");
        }
    }
    let mallory = world.handle.peers().unwrap().into_iter().find(|peer| peer.name == "mallory").unwrap();
    assert_eq!(mallory.undecodable, NO_ADDRESSES.len() as u64, "{mallory:?}");
    assert!(world.refused() > before);
    world.is_unharmed();
}

fn a_subscription_to_what_one_may_not_read_is_refused<T: Transport>() {
    let world = World::start();
    let mut owner = world.admitted::<Unix>("config2", &[]);
    let mut mallory = world.admitted::<T>("mallory", &["subscribe:config2/*", "request:**", "notify:**"]);
    mallory.subscribe("config2/*").unwrap();
    for pattern in [
        "**",
        "*",
        "*/*",
        "config2/**",
        "config2/a/*",
        "config2/a/b",
        "config2",
        "bus/audit",
        "bus/**",
        "owner/**",
    ] {
        let text = "no permission of the token allows 'subscribe'";
        expect_error(mallory.subscribe(pattern), ErrorKind::Authorization, text);
    }
    let event = world.is_audited::<T>(AuditKind::Denied, "mallory", "'subscribe'");
    assert_eq!((event.operation.as_str(), event.resource.as_str()), ("subscribe", "**"));
    for topic in ["config2/a/b", "config2/secret/key", "config2/a"] {
        owner.notify(topic, MessagePayload::String(topic));
    }
    mallory.read_topic("config2/a");
    let heard = mallory.heard();
    assert!(heard.is_empty(), "{heard:?}");
    world.is_unharmed();
}

fn a_name_that_one_may_not_hold_is_refused<T: Transport>() {
    let world = World::start();
    let mut owner = world.admitted::<Unix>("owner", &["register:radio"]);
    owner.register("radio").unwrap();
    let mut mallory = world.admitted::<T>("mallory", &["register:lamp", "request:**", "subscribe:**"]);
    for name in ["radio2", "lamps", "lamp.x", "mallory.x", "config2"] {
        let text = "no permission of the token allows 'register'";
        expect_error(mallory.register(name), ErrorKind::Authorization, text);
    }
    for (name, kind) in [
        ("", ErrorKind::Message),
        ("bus", ErrorKind::Message),
        ("Lamp", ErrorKind::Message),
        ("lamp/x", ErrorKind::Message),
        ("l\u{430}mp", ErrorKind::Message),
        ("*", ErrorKind::Message),
        ("..", ErrorKind::Message),
        ("radio", ErrorKind::Authorization),
        ("vault", ErrorKind::Authorization),
        ("owner", ErrorKind::Authorization),
    ] {
        expect_error(mallory.register(name), kind, "");
    }
    let event = world.is_audited::<T>(AuditKind::Denied, "mallory", "'register'");
    assert_eq!((event.operation.as_str(), event.resource.as_str()), ("register", "radio2"));
    mallory.register("lamp").unwrap();
    // Nor does one who may hold every name take one that is served.
    let mut greedy = world.admitted::<Unix>("greedy", &["register:**"]);
    for taken in ["radio", "owner", "vault", "lamp", "mallory"] {
        expect_error(greedy.register(taken), ErrorKind::Connection, "is taken");
    }
    let services = world.handle.active_connections().unwrap();
    assert!(services.contains(&"owner".to_owned()), "{services:?}");
    world.is_unharmed();
}

fn a_rate_is_not_evaded_by_coming_again<T: Transport>() {
    let policy = "[[rule]]\nscope = \"slow\"\nallow = [\"request:vault/*\"]\nmax_rate = 2\n";
    let world = World::with_policy(policy);
    let began = Instant::now();
    let mut mallory = world.admitted::<T>("mallory", &["slow"]);
    let (mut served, mut refused) = (0, 0);
    for boot_id in 2..8 {
        for _ in 0..3 {
            match mallory.request("vault/open", MessagePayload::Empty) {
                Ok(_) => served += 1,
                Err(error) => {
                    refused += 1;
                    let text = "the policy allows this 2 times a second: try again in";
                    expect_error::<OwnedMessage>(Err(error), ErrorKind::Authorization, text);
                }
            }
        }
        mallory = come_again::<T>(&world, mallory, "mallory", boot_id);
        mallory.authenticate(&world.token("mallory", &["slow"])).unwrap();
    }
    // However long it took: two at once, and two for each second since.
    let most = 2 + 2 * (began.elapsed().as_secs() as usize + 1);
    assert!(served <= most, "{served} served, {refused} refused in {:?}", began.elapsed());
    if refused > 0 {
        world.is_audited::<T>(AuditKind::Denied, "mallory", "2 times a second");
    }
    assert!(refused > 0 || began.elapsed().as_secs() > 3, "a fast machine is refused");
    world.is_unharmed_after(served);
}

fn what_a_policy_allows_elsewhere_or_shorter_is_refused_here<T: Transport>() {
    let own = T::KIND.as_str();
    let others: Vec<String> = ["unix", "serial", "spi", "websocket", "dbus"]
        .into_iter()
        .filter(|word| *word != own)
        .map(|word| format!("{word:?}"))
        .collect();
    let world = World::with_policy(&format!(
        "[[rule]]\nscope = \"elsewhere\"\nallow = [\"request:vault/*\"]\ntransports = [{}]\n\
         [[rule]]\nscope = \"short\"\nallow = [\"request:vault/*\"]\nmax_payload = 4\ntransports = [\"{own}\"]\n",
        others.join(", ")
    ));
    let mut mallory = world.admitted::<T>("mallory", &["elsewhere"]);
    let outcome = mallory.request("vault/open", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authorization, "the policy does not allow this over this transport");
    mallory.authenticate(&world.token("mallory", &["short"])).unwrap();
    let outcome = mallory.request("vault/open", MessagePayload::String("12345"));
    expect_error(outcome, ErrorKind::Authorization, "with payloads of up to 4 bytes");
    world.is_audited::<T>(AuditKind::Denied, "mallory", "up to 4 bytes");
    world.is_unharmed();
    assert!(mallory.request("vault/open", MessagePayload::String("1234")).is_ok());
}

fn a_hello_of_another_version_is_refused_and_opens_nothing<T: Transport>() {
    // In JSON the version is part of the subprotocol's name.
    if !T::HAS_FRAMES {
        return;
    }
    let world = World::start();
    let mut mallory = T::attach(&world, "mallory");
    for (min_version, max_version) in [(0, 0), (2, 2), (2, 255), (255, 0)] {
        let older = visorbus_core::bus::Identity {
            min_version,
            max_version,
            heartbeat_ms: 600_000,
            ..visorbus_tests::raw_peer::identity("mallory")
        };
        expect_error(mallory.hello_as(&older), ErrorKind::Protocol, "version");
        let outcome = mallory.request("vault/open", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Protocol, "say hello first");
    }
    // An end that says of itself that it can do less gets no less checked.
    hello::<T>(&mut mallory, "mallory", 1).unwrap();
    world.is_nobody::<T>(&mut mallory);
}

/// Ends a session and begins another under the same name, as somebody does who hopes to be forgotten.
fn come_again<T: Transport>(world: &World, mut peer: RawPeer, name: &str, boot_id: u64) -> RawPeer {
    if T::HANGS_UP {
        peer.notify(visorbus_core::bus::GOODBYE, MessagePayload::String("see you"));
        peer.read_to_end();
        return world.greeted::<T>(name);
    }
    hello::<T>(&mut peer, name, boot_id).unwrap();
    peer
}

fn request(id: u64, address: &str) -> Message<'_> {
    Message::request(id, Address::new(address).unwrap())
}

/// A request to what is no address.
fn frame_to(id: u64, address: &[u8]) -> Vec<u8> {
    let stand_in = "x".repeat(address.len().max(1));
    let mut frame = frame_of(&request(id, &stand_in));
    let at = frame.windows(stand_in.len()).position(|bytes| bytes == stand_in.as_bytes()).unwrap();
    frame[at..at + address.len()].copy_from_slice(address);
    frame
}

/// `config/a`, as somebody writes it who hopes that one check reads it as one thing and the next one as another.
const NO_ADDRESSES: &[&[u8]] = &[
    b"config/../vault",
    b"config/..",
    b"config/.",
    b"../vault",
    b"config//a",
    b"/config/a",
    b"config/a/",
    b"config/",
    b"config/A",
    b"Config/a",
    b"config/a b",
    b"config/a\0",
    b"config\\a",
    b"config/%61",
    b"config/a?x",
    b"config:/a",
    "c\u{43e}nfig/a".as_bytes(),
    "config/\u{430}".as_bytes(),
    "config\u{2215}a".as_bytes(),
    "config/\u{ff41}".as_bytes(),
    "config/a\u{301}".as_bytes(),
    "conf\u{131}g/a".as_bytes(),
    b"config/\xff",
    b"config/\xc0\xaf",
];
