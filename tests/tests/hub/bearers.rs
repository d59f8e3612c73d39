//! What a program serves beside the hub is guarded by the hub's own gate: token, revocations, policy, audit, counters.

use std::sync::Arc;

use visorbus_auth::{AuditEvent, Denial, TokenText, Transport};
use visorbus_core::auth::{Claims, Operation, Scopes};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_hub::{Origin, Result};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::desk::{Desk, Rules, config};
use crate::harness::{Client, TestHub, claims, unix_s};

#[test]
fn whoever_shows_a_token_may_what_it_says_and_everything_else_is_refused_counted_and_told() {
    let desk = Desk::new();
    let hub = TestHub::with_config(config(&desk, &Arc::new(Rules::default())));
    let mut warden = hub.connect("warden", &["subscribe:bus/audit"]);
    warden.subscribe(bus::AUDIT, SlowConsumer::Disconnect).unwrap();
    let token = desk.make("scraper", &["request:page/*"]);
    let good = token.value.as_str().to_owned();
    ask(&hub, Some(&good)).unwrap();
    let before = hub.handle.statistics().unwrap();

    let stranger = Claims { subject: "mallory", scopes: Scopes::new(&["*"]), ..claims() };
    let late = Claims { issued_at: unix_s() - 10, expiry: unix_s() - 5, ..stranger };
    let forged = {
        let mut bytes = hub.mint(&stranger);
        *bytes.last_mut().unwrap() ^= 1;
        text(&bytes)
    };
    let for_board = text(&hub.mint(&Claims { audience: "imu", ..stranger }));
    let late = text(&hub.mint(&late));
    let unproven = [None, Some(""), Some("vb1.x"), Some(&*forged), Some(&*for_board), Some(&*late)];
    for shown in unproven {
        expect_error(ask(&hub, shown), ErrorKind::Authentication, "");
        let event = next(&mut warden);
        assert_eq!(
            [&*event.what, &*event.method, &*event.transport],
            ["refused", "token", "websocket"],
            "{event:?}"
        );
        assert!(shown.is_none_or(|shown| shown.is_empty() || !format!("{event:?}").contains(shown)));
    }
    let other = desk.make("scraper", &["request:page/other", "subscribe:**"]);
    expect_error(ask(&hub, Some(other.value.as_str())), ErrorKind::Authorization, "page/figures");
    let event = next(&mut warden);
    assert_eq!(
        [&*event.what, &*event.subject, &*event.operation, &*event.resource],
        ["denied", "scraper", "request", "page/figures"]
    );
    hub.handle.revoke_token(token).unwrap();
    assert_eq!(next(&mut warden).what, "revoked");
    expect_error(ask(&hub, Some(&good)), ErrorKind::Authentication, "revoked");
    assert_eq!(next(&mut warden).what, "refused");

    let after = hub.handle.statistics().unwrap();
    assert_eq!(after.auth_refusals - before.auth_refusals, 7);
    assert_eq!(after.refused.authentication - before.refused.authentication, 7);
    assert_eq!(after.refused.authorization - before.refused.authorization, 1);
    assert_eq!(hub.echoed(), 0, "no handler ran");
}

#[test]
fn what_the_policy_forbids_a_token_does_not_bring_back() {
    let desk = Desk::new();
    let rules =
        Rules::new(|asked| (asked.transport == Transport::WebSocket).then_some(Denial::OtherTransport));
    let hub = TestHub::with_config(config(&desk, &rules));
    let token = desk.make("scraper", &["request:**"]);
    expect_error(ask(&hub, Some(token.value.as_str())), ErrorKind::Authorization, "over this transport");
}

fn ask(hub: &TestHub, token: Option<&str>) -> Result<()> {
    let origin = Origin::WebSocket { address: ([192, 0, 2, 7], 4_711).into(), tls: true };
    hub.handle.authorize(origin, token, Operation::Request, "page/figures")
}

fn text(token: &[u8]) -> String {
    TokenText::encode(token).unwrap().as_str().to_owned()
}

fn next(warden: &mut RawPeer) -> AuditEvent {
    warden.read_topic(bus::AUDIT).payload.parse().unwrap()
}
