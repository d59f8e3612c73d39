//! Texts that are messages, and texts that are none with what is said of them.

use super::{FULL, auth, ipc};

pub(super) fn good_texts() -> Vec<String> {
    vec![
        FULL.to_owned(),
        ipc(r#"{"id":"1","message_type":"Response","destination":"cli.1","payload":{"String":"a\u00e9\n"}}"#),
        ipc(r#"{"message_type":"Notification","destination":"panel/x","payload":{"Binary":"AAEC/w=="},"flags":{"priority":"Low"}}"#),
        ipc(r#"{"id":"4","message_type":"Request","destination":"v/p","payload":{"Binary":"AAEC"},"flags":{"encrypted":true,"compressed":true}}"#),
        ipc(r#"{"id":"2","message_type":"Request","destination":"imu/a","payload":{"Toml":"a = 1"}}"#),
        r#"{"message_type":"Error","payload":{"id":"9","destination":"cli.1","kind":"Timeout","text":"late"}}"#.to_owned(),
        r#"{"message_type":"Heartbeat","payload":{"id":"12","timestamp":7}}"#.to_owned(),
        auth(r#"{"Hello":{"name":"panel","boot_id":"1","heartbeat_interval_ms":5}}"#),
        auth(r#"{"Authenticate":{"UsernamePassword":{"username":"a","password":"b"}}}"#),
        auth(r#"{"Authenticate":{"Token":"vb1.AQID"}}"#),
    ]
}

/// Payloads of IPC messages, how what is wrong with them is said, and the id that is told.
pub(super) const BAD_MESSAGES: &[(&str, &str, Option<&str>)] = &[
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","flags":{"foo":1}}"#,
        "payload.flags.foo: there is no such field",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","x-y":1}"#,
        "payload.x-y: there is no such field",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","id":"8"}"#,
        "payload.id: this key is there twice",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{"Json":{"a":[1,{"b":1,"b":2}]}}}"#,
        "payload.payload.Json.a[1].b: this key is there twice",
        Some("7"),
    ),
    (
        r#"{"id":7,"message_type":"Request","destination":"a/b"}"#,
        "payload.id: this is a decimal number in a string",
        None,
    ),
    (r#"{"id":"07","message_type":"Request","destination":"a/b"}"#, "payload.id: this is a decimal", None),
    (
        r#"{"id":"18446744073709551616","message_type":"Request","destination":"a/b"}"#,
        "payload.id: this is a decimal",
        None,
    ),
    (
        r#"{"id":"9223372036854775808","message_type":"Request","destination":"a/b"}"#,
        "payload.id: ids of one's own",
        None,
    ),
    (r#"{"id":"0","message_type":"Request","destination":"a/b"}"#, "payload.id: ids begin at", None),
    (r#"{"message_type":"Request","destination":"a/b"}"#, "payload.id: this is missing", None),
    (r#"{"id":"7","message_type":"Request"}"#, "payload.destination: this is missing", Some("7")),
    (r#"{"id":"7","destination":"a/b"}"#, "payload.message_type: this is missing", Some("7")),
    (
        r#"{"id":"7","message_type":"Error","destination":"a/b"}"#,
        "payload.message_type: there is no such message type",
        None,
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"A/b"}"#,
        "payload.destination: this is no address",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"bus/hello"}"#,
        "payload.destination: say hello by",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":null}"#,
        "payload.destination: an address is a string",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{"Json":1,"String":""}}"#,
        "payload.payload.String: ",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{}}"#,
        "payload.payload: this is empty: one of",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{"Binary":"AA"}}"#,
        "payload.payload.Binary: this is not base64",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{"Binary":"AAB="}}"#,
        "payload.payload.Binary: this is not base64",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{"InvalidJson":""}}"#,
        "payload.payload.InvalidJson: there is no such",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{"String":"\ud800"}}"#,
        "payload.payload.String: a string has half",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","payload":{"Json":["\udc00"]}}"#,
        "payload.payload.Json[0]: a string has half",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","timestamp":-0}"#,
        "payload.timestamp: timestamp is a whole number",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","timestamp":1e3}"#,
        "payload.timestamp: timestamp is a whole number",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","uncertainty_us":1}"#,
        "payload.uncertainty_us: this needs a timestamp",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","flags":{"timeout_ms":4294967296}}"#,
        "payload.flags.timeout_ms: this is a whole number",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","flags":{"priority":"high"}}"#,
        "payload.flags.priority: there is no such priority",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","flags":{"encrypted":true}}"#,
        "payload.flags.encrypted: such a payload is",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Request","destination":"a/b","auth_token":"secret"}"#,
        "payload.auth_token: a token begins with",
        Some("7"),
    ),
    (
        r#"{"id":"7","message_type":"Response","flags":{"requires_response":true}}"#,
        "payload.flags.requires_response: a Response",
        None,
    ),
    (
        r#"{"message_type":"Notification","destination":"a/b","source":"c"}"#,
        "payload.id: this is missing",
        None,
    ),
    (r#"[]"#, "payload: a message is an object", None),
];

pub(super) fn bad_others() -> Vec<(String, &'static str)> {
    vec![
        (auth(r#"{"Hello":{}}"#), "payload.Hello.name: this is missing"),
        (auth(r#"{"Hello":{"name":"a/b"}}"#), "payload.Hello.name: a name is"),
        (auth(r#"{"Hello":{"name":"Panel"}}"#), "payload.Hello.name: a name is"),
        (auth(r#"{"Hello":{"name":"a","version":1}}"#), "payload.Hello.version: there is no such field"),
        (auth(r#""Hello""#), "payload.Hello: this has content"),
        (auth(r#""Revoked""#), "payload: there is no such"),
        (auth(r#"{"Refreshed":1}"#), "payload.Refreshed: there is no such"),
        (auth(r#"{"Authenticate":"Token"}"#), "payload.Authenticate.Token: this has content"),
        (
            auth(r#"{"Authenticate":{"Certificate":1}}"#),
            "payload.Authenticate.Certificate: this has no content",
        ),
        (auth(r#"{"Authenticate":"Peer"}"#), "payload.Authenticate: there is no such"),
        (auth(r#"{"Authenticate":{"Token":"hunter2"}}"#), "payload.Authenticate.Token: a token begins with"),
        (
            auth(r#"{"Authenticate":{"Token":"vb1.hunter2!"}}"#),
            "payload.Authenticate.Token: the token's text is damaged",
        ),
        (
            auth(r#"{"Authenticate":{"UsernamePassword":{"username":"hunter2"}}}"#),
            "payload.Authenticate.UsernamePassword.password: this is missing",
        ),
        (
            auth(r#"{"Authenticate":{"UsernamePassword":{"username":"a","password":["hunter2"]}}}"#),
            "payload.Authenticate.UsernamePassword.password: a password is a string",
        ),
        (auth(r#"{"Authenticate":{"ApiKey":"hunter2","Token":"hunter2"}}"#), "payload.Authenticate.Token: "),
        (
            r#"{"message_type":"Error","payload":{"id":"1","text":"a"}}"#.to_owned(),
            "payload.kind: this is missing",
        ),
        (
            r#"{"message_type":"Error","payload":{"id":"1","kind":"Oops","text":"a"}}"#.to_owned(),
            "payload.kind: there is no such kind",
        ),
        (
            r#"{"message_type":"Error","payload":{"id":"1","kind":"Message","text":"a","payload":"Empty"}}"#
                .to_owned(),
            "payload.payload: an Error has a kind",
        ),
        (
            r#"{"message_type":"Error","payload":{"id":"1","kind":"Message","text":"\u0001"}}"#.to_owned(),
            "payload.text: a text of one",
        ),
        (
            r#"{"message_type":"Heartbeat","payload":{"id":"1","a":1}}"#.to_owned(),
            "payload.a: there is no such field",
        ),
        (r#"{"message_type":"Heartbeat"}"#.to_owned(), "payload: this is missing"),
        (
            r#"{"message_type":"Heartbeat","payload":{},"extra":1}"#.to_owned(),
            "extra: there is no such field",
        ),
    ]
}
