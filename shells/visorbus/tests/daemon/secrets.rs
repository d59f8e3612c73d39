//! What is written down at the most talkative, and what must not be in it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use visorbus_client::Credentials;
use visorbus_unix::UnixSocketClient;

use crate::house::{House, ask, text};

#[test]
fn no_token_no_key_and_no_secret_setting_is_in_a_log_that_tells_everything() {
    let house = House::new("");
    let log = house.place.path().join("hub.log");
    let told = format!("{}[log]\nlevel = \"trace\"\noutput = \"{}\"\n", house.text(), log.display());
    fs::write(house.file(), told).unwrap();
    house.place.succeed(&["reload"]);

    let token = house.token("panel", &["request:config/**", "request:monitoring/*"], Duration::from_secs(60));
    let client = UnixSocketClient::new(house.place.socket(), "panel").unwrap();
    client.connect().unwrap();
    client.authenticate(&Credentials::Token(token.parse().unwrap())).unwrap();
    for pin in ["swordfish-4711", "swordfish-4712\n"] {
        let _ = ask(&client, "config/set/display/pin", text(pin));
        let _ = ask(&client, "config/set", text(format!("display.pin = {pin}")));
    }
    let listed = ask(&client, "config/list", text("display")).unwrap();
    assert!(!format!("{listed:?}").contains("swordfish"), "{listed:?}");
    let mut wrong = token.clone();
    wrong.truncate(wrong.len() - 4);
    for token in [&token, &wrong] {
        let mut stream = TcpStream::connect(house.address()).unwrap();
        let host = house.address();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")
            .unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
        let other = UnixSocketClient::new(house.place.socket(), "panel-2").unwrap();
        other.connect().unwrap();
        let _ = token.parse().map(|token| other.authenticate(&Credentials::Token(token)));
    }
    house.place.succeed(&["status"]);

    let written = fs::read_to_string(&log).unwrap();
    assert!(written.lines().count() > 10, "{written}");
    let keys = fs::read_to_string(house.place.key_file()).unwrap();
    let key_words = keys.split_whitespace().filter(|word| word.len() >= 32);
    let token_part = &token[token.len() / 2..];
    for secret in key_words.chain(["swordfish", token.as_str(), wrong.as_str(), token_part]) {
        assert!(!written.contains(secret), "{secret} is in the log");
    }
}
