//! The dashboard in a real browser: who logs in sees what goes on and can call, also after the hub was lost; who does not,
//! sees nothing.

use std::path::{Path, PathBuf};

use crate::chromium::Chromium;
use crate::headset::{Headset, PASSWORD};

#[test]
fn without_a_token_there_is_only_the_log_in_and_nobody_connects() {
    let (headset, browser) = (Headset::start(), Chromium::start());
    browser.open(&headset.page());
    assert_eq!(browser.value("document.activeElement.id"), "token");
    assert_eq!(browser.value("document.getElementById('dashboard').checkVisibility()"), false);
    let shown = browser.value("document.querySelector('main').innerText");
    assert!(!shown.as_str().unwrap().contains("imu"), "{shown}");
    assert!(headset.clients().iter().all(|name| name == "imu"));
    // Made with another key.
    let stranger = headset.token("panel", &["*"]);
    browser.type_text(&format!("{}AAAA", &stranger[..stranger.len() - 4]));
    browser.press("Enter");
    browser.wait("document.getElementById('login-problem').innerText !== ''");
    let problem = browser.text("login-problem");
    assert!(problem.starts_with("The hub does not let you in: token not accepted"), "{problem}");
    assert_eq!(browser.value("document.getElementById('dashboard').checkVisibility()"), false);
    assert!(headset.clients().iter().all(|name| name == "imu"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn who_logs_in_sees_samples_move_calls_endpoints_and_gets_over_the_loss_of_the_hub() {
    let (mut headset, browser) = (Headset::start(), Chromium::start());
    browser.look(1280, 1700, "light");
    browser.open(&headset.page());
    browser.type_text(&headset.token("panel", &["*", "imu.control"]));
    browser.press("Enter");
    browser.wait("document.body.dataset.state === 'up'");
    let clients = headset.clients();
    assert!(clients.iter().any(|name| name.starts_with("panel.")), "{clients:?}");
    assert_eq!(browser.value("location.href"), headset.page(), "the token is not in the address");
    samples_move(&browser);
    let is_listed = |id: &str, what: &str| {
        browser.wait(&format!("document.getElementById('{id}').innerText.includes('{what}')"));
    };
    is_listed("peers", "imu");
    is_listed("peers", "serial");
    is_listed("services", "imu/set-rate");
    for figure in ["rtt-p50", "rtt-max", "age", "rate-total", "sample-rate"] {
        browser.wait(&format!("/\\d/.test(document.getElementById('{figure}').innerText)"));
    }
    calls(&browser);
    keep_pictures(&browser);

    headset.stop();
    browser.wait("document.body.dataset.state === 'down'");
    assert_eq!(browser.text("state-text"), "Hub lost, trying again");
    browser.wait("/in|now/.test(document.getElementById('countdown').innerText)");
    browser.screenshot(&artifact("dashboard-lost.png"));
    headset.start_again();
    browser.wait("document.body.dataset.state === 'up'");
    samples_move(&browser);
    is_listed("services", "imu/set-rate");
    is_listed("log", "The hub is back");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn who_may_only_part_sees_that_part_and_why_the_rest_is_missing() {
    let (headset, browser) = (Headset::start(), Chromium::start());
    browser.open(&headset.page());
    browser.type_text(&headset.token("guest", &["request:bus/services", "request:imu/info"]));
    browser.press("Enter");
    browser.wait("document.getElementById('services').innerText.includes('imu/info')");
    for note in ["peers-note", "rates-note", "motion-note"] {
        browser.wait(&format!(
            "document.getElementById('{note}').innerText.includes('the token does not allow it')"
        ));
    }
    browser.tab_to("address");
    browser.type_text("imu/info");
    browser.press("Enter");
    browser.wait("document.getElementById('answer').innerText.includes('rate_hz')");
    assert_eq!(browser.value("document.body.dataset.state"), "up");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn who_stays_logged_in_does_so_over_a_reload_and_no_longer_than_until_the_log_out() {
    let (headset, browser) = (Headset::start(), Chromium::start());
    browser.open(&headset.page());
    browser.value("document.querySelector('input[value=password]').click()");
    browser.tab_to("username");
    browser.type_text("alice");
    browser.tab_to("password");
    browser.type_text(PASSWORD);
    browser.tab_to("keep");
    browser.press("Space");
    browser.tab_to("login-button");
    browser.press("Enter");
    browser.wait("document.body.dataset.state === 'up'");
    assert!(!browser.value("document.documentElement.outerHTML").as_str().unwrap().contains(PASSWORD));
    let kept = browser.value("sessionStorage.getItem('visorbus.token')");
    browser.open(&headset.page());
    browser.wait("document.body.dataset.state === 'up'");
    browser.tab_to("logout");
    browser.press("Enter");
    browser.wait("document.body.dataset.view === 'login'");
    assert_eq!(browser.value("sessionStorage.length"), 0);
    // The token was taken back as well: whoever has a copy has nothing.
    browser.tab_to("token");
    browser.type_text(kept.as_str().unwrap());
    browser.press("Enter");
    browser.wait("document.getElementById('login-problem').innerText.includes('does not let you in')");
    assert!(headset.clients().iter().all(|name| !name.starts_with("alice")));
}

/// Two looks at the counter and at the drawing differ.
#[track_caller]
fn samples_move(browser: &Chromium) {
    let count = browser.text("sample-count");
    let drawn = browser.value("document.getElementById('accel').toDataURL()");
    browser.wait(&format!("document.getElementById('sample-count').innerText !== '{count}'"));
    browser.wait(&format!("document.getElementById('accel').toDataURL() !== {drawn}"));
    browser.wait("document.getElementById('motion-note').innerText === 'live'");
}

/// By the keyboard alone: a call that is answered, a body that is no JSON, and one that does not fit.
fn calls(browser: &Chromium) {
    let fill = |id: &str, text: &str| {
        browser.tab_to(id);
        browser.value("document.activeElement.select()");
        browser.type_text(text);
    };
    let call = |expected: &str| {
        browser.tab_to("call-button");
        browser.press("Enter");
        browser.wait(&format!("document.getElementById('answer').innerText.includes('{expected}')"));
    };
    fill("address", "imu/set-rate");
    fill("body", "200");
    call("imu/set-rate answered in");
    assert!(browser.text("answer").trim().ends_with("200"), "{}", browser.text("answer"));
    fill("body", "{\"rate\":");
    browser.wait("document.getElementById('body-check').innerText.startsWith('not JSON')");
    fill("body", "0");
    call("the rate goes from 1 to 1000 Hz");
    fill("body", "\"fast\"");
    call("The value does not fit");
}

/// For people, and for what a picture shows best: nothing sticks out of a narrow page.
fn keep_pictures(browser: &Chromium) {
    browser.wait("Number(document.getElementById('sample-count').innerText.replace(/\\D/g, '')) > 800");
    browser.value("scrollTo(0, 0)");
    browser.screenshot(&artifact("dashboard.png"));
    browser.look(1280, 1700, "dark");
    browser.screenshot(&artifact("dashboard-dark.png"));
    browser.look(360, 2600, "light");
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 360);
    browser.screenshot(&artifact("dashboard-narrow.png"));
    browser.look(1280, 900, "light");
}

/// Where the build keeps what a test run leaves for people.
fn artifact(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("artifacts").join(name)
}
