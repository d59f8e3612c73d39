//! Who may change some settings alone, and tries all others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use visorbus_core::ErrorKind;
use visorbus_hub::OwnedPayload;

use crate::house::{House, ask, json, text};

#[test]
fn who_may_set_one_category_can_do_nothing_else_in_any_form_on_any_way() {
    let house = House::new("[display]\nbrightness = 5\n[sound]\nvolume = 4\n");
    let before = house.text();
    let scopes = &["request:config/set/display/*"];
    for client in [house.client("dimmer", scopes), house.web_client("web-dimmer", scopes)] {
        let toml = |text: &str| OwnedPayload::Toml(text.to_owned());
        let tries = [
            ("config/import", text("[display]\nbrightness = 9\n")),
            ("config/import", json(r#"{"sound":{"volume":9}}"#)),
            ("config/export", OwnedPayload::Empty),
            ("config/describe", OwnedPayload::Empty),
            ("config/list", OwnedPayload::Empty),
            ("config/get", text("sound.volume")),
            ("config/get/display/brightness", OwnedPayload::Empty),
            ("config/get/display/pin", OwnedPayload::Empty),
            ("config/reset", text("sound.volume")),
            ("config/set", text("sound.volume = 9")),
            ("config/set", toml("category = \"sound\"\nkey = \"volume\"\nvalue = 9")),
            ("config/set", json(r#"{"category":"sound","key":"volume","value":9}"#)),
            ("config/set/sound/volume", text("9")),
            ("config/reset/display/brightness", OwnedPayload::Empty),
            ("config/set/log/level", text("trace")),
            ("config/set/auth/policy_file", text("/tmp/mine.toml")),
            ("manager/shutdown", OwnedPayload::Empty),
            ("manager/reload", OwnedPayload::Empty),
            ("manager/status", OwnedPayload::Empty),
            ("monitoring/set-threshold", text("machine.cpu_percent > 1")),
            ("monitoring/remove-threshold", text("machine.cpu_percent")),
            ("monitoring/metrics", OwnedPayload::Empty),
            ("monitoring/prometheus", OwnedPayload::Empty),
            ("hardware/list", OwnedPayload::Empty),
            ("hardware/command", json(r#"{"id":"board/imu","command":"set-rate"}"#)),
        ];
        for (address, payload) in tries {
            let said = ask(&client, address, payload.clone());
            let kind = said.as_ref().err().map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::Authorization), "{address} {payload:?}: {said:?}");
        }
    }
    assert_eq!(house.text(), before);
    let client = house.client("dimmer", scopes);
    ask(&client, "config/set/display/brightness", text("6")).unwrap();
    assert_eq!(house.text(), before.replace("brightness = 5", "brightness = 6"));
}

#[test]
fn a_key_with_strange_characters_is_nobodys() {
    let house = House::new("");
    let before = house.text();
    let client = house.client("panel", &["request:config/set", "request:config/set/display/*"]);
    let strange = [
        "../sound/volume",
        "*",
        "**",
        "brightness/x",
        "",
        "Brightness",
        "brightness\\n[sound]",
        "x\u{202e}",
        "\u{0}",
    ];
    for key in strange {
        for category in ["display", "display/../sound", "sound", "*"] {
            let body = serde_json::json!({ "category": category, "key": key, "value": 9 }).to_string();
            assert!(ask(&client, "config/set", json(body)).is_err(), "{category} {key:?}");
        }
    }
    let injected = r#"{"category":"display","key":"pin","value":"1\"\n[sound]\nvolume = 9"}"#;
    assert!(ask(&client, "config/set", json(injected)).is_err());
    assert_eq!(house.text(), before);
}

#[test]
fn the_figures_are_for_a_token_that_is_good_now() {
    let house = House::new("");
    let long = Duration::from_secs(3600);
    let good = house.token("scraper", &["request:monitoring/prometheus"], long);
    let narrow = house.token("scraper", &["request:monitoring/health", "subscribe:**"], long);
    let mut forged = good.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    forged.insert(10, 'x');
    let status = |host: &str, bearer: Option<&str>| {
        let mut stream = TcpStream::connect(house.address()).unwrap();
        let bearer = bearer.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let own = house.address();
    assert_eq!(status(&own, Some(&good)), "200");
    for (bearer, expected) in
        [(None, "401"), (Some("vb1."), "401"), (Some(forged.as_str()), "401"), (Some(narrow.as_str()), "403")]
    {
        assert_eq!(status(&own, bearer), expected, "{bearer:?}");
    }
    let strange = status("evil.example", Some(&good));
    assert!(strange.starts_with('4'), "a page of another name has none of them: {strange}");
    assert_eq!(house.place.run(&["auth", "token", "revoke", "--subject", "scraper"]).code, Some(0));
    assert_eq!(status(&own, Some(&good)), "401", "it is taken back");
}
