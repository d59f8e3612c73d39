//! Accounts attacked: every way in with what does not belong to it, and every token after it should count no more.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use visorbus_core::auth::Slot;

use super::*;
use crate::{CertificateId, Secret, Transport};

const POLICY: &str = r#"
[subjects.viewer]
scopes = ["from-policy"]

[[unix]]
uid = 1000
subject = "panel"
scopes = ["panel"]

[[unix]]
gid = 50
subject = "staff"

[[certificate]]
uri = "visorbus:panel"
subject = "panel"
scopes = ["by-uri"]
"#;

const PANEL: &[u8] = include_bytes!("../../testdata/panel.der");
const RENEWED: &[u8] = include_bytes!("../../testdata/panel-renewed.der");
const EXPIRED: &[u8] = include_bytes!("../../testdata/panel-expired.der");
const STRANGER: &[u8] = include_bytes!("../../testdata/stranger.der");
const COMMON_NAME: &[u8] = include_bytes!("../../testdata/common-name.der");

/// The second in which the tests began: the store itself goes by the system's clock.
fn start() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    *START.get_or_init(crate::unix_seconds)
}

const DAY: u64 = 86_400;

/// Accounts in files, and a clock that stands still until it is set.
struct House {
    directory: TempDir,
    clock: Arc<AtomicU64>,
    accounts: Accounts,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(start()));
        Store::open_or_create(directory.path().join("accounts.json")).unwrap();
        let accounts = open(&directory, &clock);
        Self { directory, clock, accounts }
    }

    fn restart(&mut self) {
        self.accounts = open(&self.directory, &self.clock);
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    fn store(&self) -> &Store {
        self.accounts.store()
    }

    fn user(&self, name: &str, password: &str, scopes: &[&str]) {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self.store().add_user(name, &Secret::new(password), &scopes).unwrap();
    }

    fn password(&self, name: &str, password: &str, address: &str) -> Result<AuthToken> {
        let credentials =
            Credentials::UsernamePassword { username: name.to_owned(), password: Secret::new(password) };
        self.accounts.authenticate(&credentials, &Channel { address, ..Channel::default() })
    }

    fn api_key(&self, key: &Secret) -> Result<AuthToken> {
        self.accounts.authenticate(&Credentials::ApiKey(key.clone()), &Channel::default())
    }

    fn certificate(&self, der: &[u8], verified: bool) -> Result<AuthToken> {
        let channel =
            Channel { certificate: Some(der), certificate_verified: verified, ..Channel::default() };
        self.accounts.authenticate(&Credentials::Certificate(der.to_vec()), &channel)
    }

    fn validate(&self, token: &AuthToken) -> Result<Grant> {
        self.validate_over(token, &Channel::default())
    }

    fn validate_over(&self, token: &AuthToken, channel: &Channel<'_>) -> Result<Grant> {
        self.accounts.validate_token(&token.value.to_bytes().unwrap(), channel, self.now())
    }

    fn refresh(&self, token: &AuthToken) -> Result<AuthToken> {
        self.accounts.refresh_token(token, &Channel::default())
    }

    /// A token that a login would make.
    fn token(&self, subject: &str) -> AuthToken {
        self.accounts.mint(&TokenRequest::new(subject, &["panel"])).unwrap()
    }
}

fn open(directory: &TempDir, clock: &Arc<AtomicU64>) -> Accounts {
    let store = Arc::new(Store::open(directory.path().join("accounts.json")).unwrap());
    let keys = KeyFile::open_or_create(directory.path().join("root.key")).unwrap();
    let (policy, clock) = (Arc::new(Policy::parse(POLICY).unwrap()), clock.clone());
    Accounts::new(store, keys, policy).with_clock(move || clock.load(Ordering::Relaxed))
}

fn narrowed(token: &AuthToken, caveat: &Caveat<'_>) -> AuthToken {
    let mut out = [0; MAX_TOKEN];
    let len = attenuate(&token.value.to_bytes().unwrap(), caveat, &mut out).unwrap();
    AuthToken::new(TokenText::encode(&out[..len]).unwrap()).unwrap()
}

#[test]
fn a_password_lets_its_user_in_with_the_users_scopes_and_no_other_password_does() {
    let house = House::new();
    house.user("alice", "correct horse", &["panel"]);
    let token = house.password("alice", "correct horse", "10.0.0.1").unwrap();
    assert_eq!((token.scope.as_slice(), token.expiration), (&["panel".to_owned()][..], Some(start() + 3600)));
    assert_eq!(house.validate(&token).unwrap().subject(), "alice");
    let wrong = house.password("alice", "correct hors", "10.0.0.1").unwrap_err();
    let unknown = house.password("bob", "correct horse", "10.0.0.1").unwrap_err();
    house.store().disable("alice").unwrap();
    let shut_out = house.password("alice", "correct horse", "10.0.0.1").unwrap_err();
    assert!(wrong == unknown && wrong == shut_out, "who guesses learns nothing");
    assert!(matches!(wrong, Error::Authentication(_)));
    for name in ["", "bus", "Alice", "alice\0", "../alice"] {
        assert_eq!(house.password(name, "correct horse", "10.0.0.1").unwrap_err(), wrong);
    }
}

#[test]
fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let house = House::new();
    house.user("alice", "correct horse", &[]);
    let time = |name: &str, address: &str| {
        let start = Instant::now();
        house.password(name, "wrong", address).unwrap_err();
        start.elapsed()
    };
    // The shortest of several: a busy machine only makes things longer.
    let known = (0..5).map(|n| time("alice", &format!("10.0.1.{n}"))).min().unwrap();
    let unknown = (0..5).map(|n| time("nobody", &format!("10.0.2.{n}"))).min().unwrap();
    assert!(unknown * 3 > known && known * 3 > unknown, "{known:?} and {unknown:?}");
}

#[test]
fn who_guesses_waits_and_the_user_elsewhere_gets_in() {
    let house = House::new();
    house.user("alice", "correct horse", &[]);
    let guesses: Vec<_> = (0..6).map(|_| house.password("alice", "wrong", "6.6.6.6").unwrap_err()).collect();
    assert!(guesses[..4].iter().all(|error| matches!(error, Error::Authentication(_))));
    assert!(
        matches!(&guesses[5], Error::Message(text) if text.contains("try again in 1 s")),
        "{:?}",
        guesses[5]
    );
    let late = house.password("alice", "correct horse", "6.6.6.6");
    assert!(
        matches!(late, Err(Error::Message(_))),
        "not even the right one from there, so no guess is for free"
    );
    house.password("alice", "correct horse", "10.0.0.1").unwrap();
}

#[test]
fn a_hash_of_yesterdays_parameters_is_made_anew_at_the_next_login() {
    let house = House::new();
    house.user("alice", "correct horse", &[]);
    let (params, salt) = (argon2::Params::new(64, 1, 1, None).unwrap(), b"0123456789abcdef");
    let weak = argon2::Argon2::from(params);
    let weak = argon2::password_hash::PasswordHasher::hash_password_with_salt(&weak, b"correct horse", salt)
        .unwrap();
    let stored = || house.store().with_records(|records| records.users["alice"].password.expose().to_owned());
    house
        .store()
        .update(|records| {
            records.users.get_mut("alice").unwrap().password = Secret::new(weak.to_string());
            Ok(())
        })
        .unwrap();
    assert!(house.password("alice", "wrong", "10.0.0.1").is_err());
    assert_eq!(stored(), weak.to_string());
    house.password("alice", "correct horse", "10.0.0.1").unwrap();
    assert!(stored().contains("m=19456,t=2,p=1"));
    house.password("alice", "correct horse", "10.0.0.1").unwrap();
}

#[test]
fn an_api_key_lets_its_program_in_until_it_is_stopped_or_over() {
    let house = House::new();
    let key = house.store().add_api_key("ci", &["log".to_owned()], Some(start() + 100)).unwrap();
    let token = house.api_key(&key).unwrap();
    assert_eq!((token.scope.as_slice(), token.expiration), (&["log".to_owned()][..], Some(start() + 100)));
    assert!(house.refresh(&token).is_err(), "renewed, it would outlast its key");
    for at in 0..key.expose().len() {
        let mut wrong = key.expose().as_bytes().to_vec();
        wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
        let wrong = house.api_key(&Secret::new(String::from_utf8(wrong).unwrap())).unwrap_err();
        assert_eq!(wrong, house.api_key(&Secret::new("")).unwrap_err());
    }
    let prefix = house.store().api_keys()[0].prefix.clone();
    house.store().set_api_key_disabled(&prefix, true).unwrap();
    assert!(house.api_key(&key).unwrap_err().to_string().contains("stopped"));
    house.store().set_api_key_disabled(&prefix, false).unwrap();
    house.store().disable("ci").unwrap();
    assert!(house.api_key(&key).is_err());
    house.store().enable("ci").unwrap();
    house.api_key(&key).unwrap();
    house.pass(100);
    assert!(house.api_key(&key).unwrap_err().to_string().contains("expired"));
}

#[test]
fn a_certificate_is_known_by_its_hash_or_its_key_or_a_uri_that_a_ca_vouches_for() {
    let house = House::new();
    assert!(house.certificate(PANEL, false).is_err(), "anybody can write that URI into a certificate");
    assert!(house.certificate(COMMON_NAME, true).is_err(), "a common name is nobody");
    let by_uri = house.certificate(STRANGER, true).unwrap();
    assert_eq!(by_uri.scope, ["by-uri"]);
    let add = |id: CertificateId, scope: &str| {
        house.store().add_certificate(id, "panel", &[scope.to_owned()]).unwrap();
    };
    let key = match &certificate::identities(PANEL, false, start()).unwrap()[1] {
        id @ CertificateId::Spki(_) => id.clone(),
        other => panic!("{other:?}"),
    };
    add(key, "by-key");
    assert_eq!(house.certificate(RENEWED, false).unwrap().scope, ["by-key"]);
    add(CertificateId::Sha256(crate::store::sha256(PANEL)), "by-hash");
    assert_eq!(house.certificate(PANEL, false).unwrap().scope, ["by-hash"]);
    assert_eq!(house.certificate(RENEWED, true).unwrap().scope, ["by-key"], "the narrowest decides");
    assert!(house.certificate(STRANGER, false).is_err());
    assert!(house.certificate(EXPIRED, true).unwrap_err().to_string().contains("not of today"));
}

#[test]
fn what_is_no_certificate_lets_nobody_in() {
    let house = House::new();
    for len in [0, 1, 10, PANEL.len() - 1] {
        assert!(house.certificate(&PANEL[..len], true).is_err());
    }
    let longer = [PANEL, &[0]].concat();
    assert!(house.certificate(&longer, true).is_err());
    for at in 0..PANEL.len() {
        let mut bytes = PANEL.to_vec();
        bytes[at] ^= 0x80;
        let _ = house.certificate(&bytes, true);
    }
}

#[test]
fn what_the_channel_does_not_vouch_for_is_only_a_claim() {
    let house = House::new();
    let claim = |credentials: &Credentials, channel: &Channel<'_>| {
        house.accounts.authenticate(credentials, channel).unwrap_err().to_string()
    };
    let unix = |uid, gid| Channel {
        transport: Transport::Unix,
        uid: Some(uid),
        gid: Some(gid),
        ..Channel::default()
    };
    let panel = Credentials::Peer { uid: 1000, gid: Some(1000) };
    for channel in [Channel::default(), unix(1001, 1000), unix(1000, 50), unix(0, 0)] {
        assert!(claim(&panel, &channel).contains("does not vouch"));
    }
    let own = Channel { certificate: Some(STRANGER), certificate_verified: true, ..Channel::default() };
    assert!(claim(&Credentials::Certificate(PANEL.to_vec()), &own).contains("does not vouch"));
    assert!(claim(&Credentials::Certificate(PANEL.to_vec()), &Channel::default()).contains("does not vouch"));
}

#[test]
fn where_the_main_group_is_not_known_only_a_rule_for_the_user_counts() {
    let house = House::new();
    let bus = |uid, gid| Channel { transport: Transport::DBus, uid, gid, ..Channel::default() };
    let login = |uid, gid, channel: &Channel<'_>| {
        house.accounts.authenticate(&Credentials::Peer { uid, gid }, channel).map_err(|e| e.to_string())
    };
    let token = login(1000, None, &bus(Some(1000), None)).unwrap();
    assert_eq!(house.validate_over(&token, &bus(Some(1000), None)).unwrap().subject(), "panel");
    // The rule for group 50 gives nothing to a user of whom no group is known, or another one.
    let refused = login(2000, None, &bus(Some(2000), None)).unwrap_err();
    assert!(refused.contains("neither user 2000") && refused.contains("this uid"), "{refused}");
    assert!(login(50, None, &bus(Some(50), None)).is_err(), "a group's number is no user's");
    assert!(login(2000, Some(50), &bus(Some(2000), Some(50))).is_ok(), "where it is known it counts");
    // What is claimed and what the channel tells have to be the same, a group that it does not tell too.
    for channel in [bus(None, None), bus(Some(2000), None), bus(None, Some(50)), bus(Some(2000), Some(51))] {
        assert!(login(2000, Some(50), &channel).unwrap_err().contains("does not vouch"), "{channel:?}");
    }
    assert!(login(1000, None, &bus(Some(1000), Some(50))).unwrap_err().contains("does not vouch"));
    // A token that a group's rule gave over a socket is used over the bus, and not renewed there.
    let socket = Channel { transport: Transport::Unix, ..bus(Some(2000), Some(50)) };
    let token = login(2000, Some(50), &socket).unwrap();
    assert!(house.validate_over(&token, &bus(Some(2000), None)).is_ok());
    assert!(house.validate_over(&token, &bus(Some(2001), None)).is_err());
    let refused = house.accounts.refresh_token(&token, &bus(Some(2000), None)).unwrap_err();
    assert!(refused.to_string().contains("no longer gives"), "{refused}");
    house.accounts.refresh_token(&token, &socket).unwrap();
}

#[test]
fn a_unix_user_is_who_the_policy_says_and_the_token_is_that_users_alone() {
    let house = House::new();
    let unix = |uid, gid| Channel {
        transport: Transport::Unix,
        uid: Some(uid),
        gid: Some(gid),
        ..Channel::default()
    };
    let login =
        |uid, gid| house.accounts.authenticate(&Credentials::Peer { uid, gid: Some(gid) }, &unix(uid, gid));
    let token = login(1000, 50).unwrap();
    assert_eq!(house.validate_over(&token, &unix(1000, 7)).unwrap().subject(), "panel");
    for channel in [Channel::default(), unix(1001, 50), unix(0, 0)] {
        assert!(house.validate_over(&token, &channel).is_err(), "stolen, it is worth nothing");
        assert!(house.accounts.refresh_token(&token, &channel).is_err());
    }
    assert_eq!(login(2000, 50).unwrap().scope, Vec::<String>::new());
    assert!(login(2000, 51).unwrap_err().to_string().contains("[[unix]]"));
    let fresh = house.accounts.refresh_token(&token, &unix(1000, 50)).unwrap();
    assert!(house.validate(&fresh).is_err(), "what it is bound to stays");
    let without = Policy::parse(&POLICY.replace("uid = 1000", "uid = 1001")).unwrap();
    let keys = KeyFile::open(house.directory.path().join("root.key")).unwrap();
    let stricter = Accounts::new(house.accounts.store.clone(), keys, Arc::new(without));
    let refused = stricter.refresh_token(&fresh, &unix(1000, 50)).unwrap_err();
    assert!(refused.to_string().contains("no longer gives"), "{refused}");
    house.accounts.revoke_token(&fresh).unwrap();
    assert!(house.validate_over(&fresh, &unix(1000, 50)).is_err(), "to take it back one need not be there");
}

#[test]
fn a_token_of_a_certificate_is_bound_to_it() {
    let house = House::new();
    let token = house.certificate(STRANGER, true).unwrap();
    let over = |der: &'static [u8]| Channel { certificate: Some(der), ..Channel::default() };
    house.validate_over(&token, &over(STRANGER)).unwrap();
    for channel in [Channel::default(), over(PANEL)] {
        assert!(house.validate_over(&token, &channel).is_err());
    }
}

#[test]
fn a_shown_token_is_checked_before_anything_is_said_of_it() {
    let house = House::new();
    let token = house.token("viewer");
    let show = |token: &AuthToken| {
        house.accounts.authenticate(&Credentials::Token(token.value.clone()), &Channel::default())
    };
    assert_eq!(show(&token).unwrap(), token);
    house.accounts.revoke_token(&token).unwrap();
    assert!(show(&token).is_err());
    let other = KeyFile::in_memory(0, [9; 32]).mint(&TokenRequest::new("viewer", &["*"])).unwrap();
    assert!(show(&AuthToken::new(other).unwrap()).is_err());
}

#[test]
fn a_refreshed_token_counts_and_the_old_one_does_not_after_a_restart_either() {
    let mut house = House::new();
    let old = house.token("viewer");
    house.pass(600);
    let new = house.refresh(&old).unwrap();
    assert_eq!((new.expiration, &new.scope), (Some(start() + 600 + 3600), &old.scope));
    let (grant, before) = (house.validate(&new).unwrap(), new.value.clone());
    assert_eq!(house.refresh(&new).map(|newer| newer.value == before), Ok(false));
    assert!(!house.accounts.is_live(&grant, house.now()), "a session with it has to take the newer one");
    house.restart();
    assert!(house.validate(&old).is_err() && house.validate(&new).is_err());
}

#[test]
fn a_renewed_token_that_is_used_again_takes_its_whole_family_with_it() {
    let mut house = House::new();
    let stolen = house.token("viewer");
    let other = house.token("viewer");
    let own = house.refresh(&stolen).unwrap();
    let grant = house.validate(&own).unwrap();
    assert!(house.validate(&stolen).is_err());
    assert!(!house.accounts.is_live(&grant, house.now()), "at once");
    assert!(house.validate(&own).is_err() && house.refresh(&own).is_err());
    house.validate(&other).unwrap();
    while house.accounts.reused.is_being_written.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    house.restart();
    assert!(house.validate(&own).is_err(), "and for good");
    house.validate(&other).unwrap();
}

#[test]
fn of_two_that_refresh_one_token_at_once_one_gets_a_token() {
    let house = House::new();
    let token = house.token("viewer");
    let got = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| house.refresh(&token).is_ok())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|ok| *ok).count()
    });
    assert_eq!(got, 1);
}

#[test]
fn a_family_ends_thirty_days_after_its_first_token_however_often_it_is_renewed() {
    let house = House::new();
    let mut token = house
        .accounts
        .mint(&TokenRequest { lifetime: Duration::from_secs(7 * DAY), ..TokenRequest::new("viewer", &[]) })
        .unwrap();
    let mut days = 0;
    while let Ok(fresh) = house.refresh(&token) {
        assert!(fresh.expiration.unwrap() <= start() + 30 * DAY);
        (token, days) = (fresh, days + 6);
        house.pass(6 * DAY);
    }
    assert_eq!((days, token.expiration), (30, Some(start() + 30 * DAY)));
}

#[test]
fn refreshing_gives_no_more_than_there_was() {
    let house = House::new();
    let token = house.token("viewer");
    let scopes = narrowed(&token, &Caveat::Scopes(Scopes::new(&[])));
    let expiry = narrowed(&token, &Caveat::Expiry(start() + 60));
    for narrower in [&scopes, &expiry] {
        assert!(house.validate(narrower).is_ok());
        assert!(house.refresh(narrower).unwrap_err().to_string().contains("narrowed"));
    }
    let lied = AuthToken { scope: vec!["*".to_owned()], ..token.clone() };
    assert!(house.refresh(&lied).is_err() && house.accounts.revoke_token(&lied).is_err());
    house.pass(3600);
    assert!(house.refresh(&token).is_err(), "nor is an expired one renewed");
}

#[test]
fn a_token_for_a_board_or_of_one_is_not_refreshed_here() {
    let house = House::new();
    let for_board = TokenRequest { audience: "imu".to_owned(), ..TokenRequest::new("viewer", &["sensor"]) };
    let for_board = house.accounts.mint(&for_board).unwrap();
    assert!(house.refresh(&for_board).is_err() && house.validate(&for_board).is_err());
    let proof = proof(&house, "imu", start());
    let channel = Channel { boot_id: Some(77), ..Channel::default() };
    assert_eq!(house.validate_over(&proof, &channel).unwrap().issuer(), "imu");
    assert!(house.accounts.refresh_token(&proof, &channel).unwrap_err().to_string().contains("not renewed"));
    house.store().disable("imu").unwrap();
    assert!(house.validate_over(&proof, &channel).is_err());
}

/// What the board called `name` says of itself to the hub that started as 77.
fn proof(house: &House, name: &str, now: u64) -> AuthToken {
    let keys = KeyFile::open(house.directory.path().join("root.key")).unwrap();
    let mut ring = KeyRing::new();
    ring.add(Slot::device(keys.current_id(), keys.device_key(name).unwrap())).unwrap();
    let claims = Claims {
        issuer: name,
        subject: name,
        audience: BUS,
        serial: 77,
        issued_at: now,
        expiry: now + 300,
        epoch: 0,
        scopes: Scopes::new(&[]),
    };
    let mut token = [0; MAX_TOKEN];
    let len = ring.mint(keys.current_id(), &claims, &mut token).unwrap();
    AuthToken::new(TokenText::encode(&token[..len]).unwrap()).unwrap()
}

#[test]
fn a_token_that_was_taken_back_is_void_at_once_and_after_a_restart() {
    let mut house = House::new();
    let (token, other) = (house.token("viewer"), house.token("viewer"));
    let narrower = narrowed(&token, &Caveat::Expiry(start() + 60));
    let grant = house.validate(&token).unwrap();
    house.accounts.revoke_token(&narrower).unwrap();
    assert!(!house.accounts.is_live(&grant, house.now()));
    for _ in 0..2 {
        assert!(house.validate(&token).is_err() && house.validate(&narrower).is_err());
        house.validate(&other).unwrap();
        house.restart();
    }
    assert!(house.refresh(&token).is_err());
}

#[test]
fn all_of_a_subject_or_of_a_key_are_void_and_a_new_login_counts_in_the_same_second() {
    let mut house = House::new();
    house.user("alice", "correct horse", &[]);
    for of in [
        RevokeAll::Subject("alice".to_owned()),
        RevokeAll::Subject("alice".to_owned()),
        RevokeAll::KeyEpoch(0),
    ] {
        let (token, other) = (house.password("alice", "correct horse", "a").unwrap(), house.token("viewer"));
        let grant = house.validate(&token).unwrap();
        house.accounts.revoke_all(&of).unwrap();
        assert!(!house.accounts.is_live(&grant, house.now()));
        house.restart();
        assert!(house.validate(&token).is_err(), "{of:?}");
        assert_eq!(house.validate(&other).is_ok(), of != RevokeAll::KeyEpoch(0));
        let again = house.password("alice", "correct horse", "a").unwrap();
        house.validate(&again).unwrap();
    }
    let told = house.accounts.revocations();
    assert!(told.iter().any(|(subject, until)| subject == "alice" && *until >= start()), "{told:?}");
    assert!(told.contains(&(String::new(), start())), "{told:?}");
    assert!(house.accounts.revoke_all(&RevokeAll::KeyEpoch(9)).is_err());
    assert!(house.accounts.revoke_all(&RevokeAll::Subject("bus".to_owned())).is_err());
}

#[test]
fn a_changed_password_or_scope_takes_the_old_tokens_back() {
    let house = House::new();
    house.user("alice", "correct horse", &["admin"]);
    let login = |password: &str| house.password("alice", password, "a").unwrap();
    let token = login("correct horse");
    house.store().set_scopes("alice", &["panel".to_owned()]).unwrap();
    assert!(house.validate(&token).is_err());
    let token = login("correct horse");
    assert_eq!(token.scope, ["panel"]);
    house.store().set_password("alice", &Secret::new("battery staple")).unwrap();
    assert!(house.validate(&token).is_err() && house.password("alice", "correct horse", "a").is_err());
    let token = login("battery staple");
    house.validate(&token).unwrap();
    house.store().remove_user("alice").unwrap();
    assert!(house.validate(&token).is_err() && house.password("alice", "battery staple", "b").is_err());
}

#[test]
fn what_another_process_took_back_is_known_after_a_look() {
    let house = House::new();
    let token = house.token("viewer");
    let grant = house.validate(&token).unwrap();
    let other = open(&house.directory, &house.clock);
    other.revoke_token(&token).unwrap();
    assert!(house.accounts.reload_if_changed().unwrap() && !house.accounts.reload_if_changed().unwrap());
    assert!(!house.accounts.is_live(&grant, house.now()));
}

#[test]
fn what_cannot_be_written_down_is_not_taken_back_and_says_so() {
    let house = House::new();
    let token = house.token("viewer");
    std::fs::remove_file(house.directory.path().join("accounts.json")).unwrap();
    assert!(matches!(house.accounts.revoke_token(&token), Err(Error::Internal(_))));
    assert!(matches!(house.refresh(&token), Err(Error::Internal(_))));
    assert!(house.accounts.reload().is_err());
    house.validate(&token).unwrap();
}

#[test]
fn a_rotated_key_goes_on_counting_and_a_retired_one_cuts_off() {
    let house = House::new();
    let path = house.directory.path().join("root.key");
    let (token, proof) = (house.token("viewer"), proof(&house, "imu", start()));
    let channel = Channel { boot_id: Some(77), ..Channel::default() };
    house.validate_over(&proof, &channel).unwrap();
    let mut keys = KeyFile::open(&path).unwrap();
    assert_eq!(keys.rotate(Duration::from_secs(20 * 365 * DAY)).unwrap(), 1);
    house.accounts.reload().unwrap();
    let grant = house.validate(&token).unwrap();
    assert_eq!(house.validate(&house.token("viewer")).unwrap().key_id(), 1);
    let hub = |audience| {
        let scopes = Scopes::new(&["*"]);
        let claims = Claims {
            issuer: BUS,
            subject: BUS,
            audience,
            serial: 5,
            issued_at: house.now(),
            expiry: house.now() + 60,
            epoch: 0,
            scopes,
        };
        let token = house.accounts.mint_own(&claims).unwrap();
        UnverifiedToken::read(&token).unwrap().key_id()
    };
    assert_eq!((hub("imu"), hub("other")), (0, 1), "a board gets the proof that it can check");
    keys.retire(0).unwrap();
    house.accounts.reload().unwrap();
    assert!(!house.accounts.is_live(&grant, house.now()) && house.validate(&token).is_err());
    assert_eq!(hub("imu"), 1);
}

#[test]
fn the_hubs_own_tokens_for_itself_pass_its_check_whatever_was_taken_back() {
    let house = House::new();
    house.accounts.revoke_all(&RevokeAll::KeyEpoch(0)).unwrap();
    house.accounts.revoke_all(&RevokeAll::Subject("gyro".to_owned())).unwrap();
    let claims = Claims {
        issuer: BUS,
        subject: "gyro",
        audience: BUS,
        serial: 123_456_789,
        issued_at: start(),
        expiry: start() + 10 * 365 * DAY,
        epoch: 0,
        scopes: Scopes::new(&[]),
    };
    let token = house.accounts.mint_own(&claims).unwrap();
    house.accounts.validate_token(&token, &Channel::default(), start()).unwrap();
    house.store().disable("gyro").unwrap();
    assert!(house.accounts.validate_token(&token, &Channel::default(), start()).is_err());
}

#[test]
fn a_token_that_would_outlast_what_is_remembered_is_refused() {
    let house = House::new();
    let keys = KeyFile::open(house.directory.path().join("root.key")).unwrap();
    let lifetime = Duration::from_secs(20 * 366 * DAY);
    let token = keys.mint(&TokenRequest { lifetime, ..TokenRequest::new("viewer", &[]) }).unwrap();
    let now = crate::unix_seconds();
    assert!(house.accounts.validate_token(&token.to_bytes().unwrap(), &Channel::default(), now).is_err());
    assert!(house.accounts.mint(&TokenRequest { lifetime, ..TokenRequest::new("viewer", &[]) }).is_err());
}

#[test]
fn a_minted_token_has_the_scopes_of_its_subject_and_a_boards_those_of_the_policy_too() {
    let house = House::new();
    house.user("viewer", "correct horse", &["panel"]);
    let mint = |audience: &str, scopes: &[&str]| {
        let request = TokenRequest { audience: audience.to_owned(), ..TokenRequest::new("viewer", scopes) };
        house.accounts.mint(&request)
    };
    assert_eq!(mint(BUS, &[]).unwrap().scope, ["panel"]);
    assert_eq!(mint("imu", &[]).unwrap().scope, ["panel", "from-policy"]);
    assert_eq!(mint(BUS, &["log"]).unwrap().scope, ["log"]);
    house.store().disable("viewer").unwrap();
    assert!(mint(BUS, &[]).is_err());
    assert!(house.accounts.mint(&TokenRequest::new("bus/x", &[])).is_err());
}

#[test]
fn a_token_for_a_board_that_is_taken_back_again_and_again_shuts_nobody_out() {
    let house = House::new();
    house.user("alice", "correct horse", &["x"]);
    let request = TokenRequest { audience: "imu".to_owned(), ..TokenRequest::new("alice", &["x"]) };
    let token = house.accounts.mint(&request).unwrap();
    house.accounts.revoke_token(&token).unwrap();
    let again = house.password("alice", "correct horse", "a").unwrap();
    let told = house.accounts.revocations();
    assert!(told.contains(&("alice".to_owned(), start())), "{told:?}");
    let before = std::fs::read(house.directory.path().join("accounts.json")).unwrap();
    for _ in 0..200 {
        house.accounts.revoke_token(&token).unwrap();
    }
    assert_eq!(std::fs::read(house.directory.path().join("accounts.json")).unwrap(), before);
    house.validate(&again).unwrap();
    assert_eq!(house.accounts.revocations(), told);
    assert!(house.accounts.mint(&request).is_ok());
}

#[test]
fn a_token_of_one_family_takes_back_no_more_once_it_is_void() {
    let house = House::new();
    let (token, other) = (house.token("viewer"), house.token("viewer"));
    house.accounts.revoke_all(&RevokeAll::Subject("viewer".to_owned())).unwrap();
    let before = std::fs::read(house.directory.path().join("accounts.json")).unwrap();
    for token in [&token, &other, &token] {
        house.accounts.revoke_token(token).unwrap();
    }
    assert_eq!(std::fs::read(house.directory.path().join("accounts.json")).unwrap(), before);
}

#[test]
fn a_narrower_token_takes_its_family_back_for_as_long_as_the_widest_lasts() {
    let house = House::new();
    let (token, other) = (house.token("viewer"), house.token("viewer"));
    house.accounts.revoke_token(&narrowed(&token, &Caveat::Expiry(start() + 60))).unwrap();
    house.pass(61);
    house.accounts.revoke_token(&other).unwrap();
    assert!(house.validate(&token).is_err());
}

#[test]
fn the_proof_of_a_board_or_of_the_hub_cannot_be_taken_back_and_shuts_nobody_out() {
    let house = House::new();
    let own = proof(&house, "imu", start());
    let claims = Claims {
        issuer: BUS,
        subject: BUS,
        audience: "imu",
        serial: 5,
        issued_at: start(),
        expiry: start() + 60,
        epoch: 0,
        scopes: Scopes::new(&["*"]),
    };
    let hubs = house.accounts.mint_own(&claims).unwrap();
    let hubs = AuthToken::new(TokenText::encode(&hubs).unwrap()).unwrap();
    for proof in [&own, &hubs] {
        let refused = house.accounts.revoke_token(proof).unwrap_err();
        assert!(refused.to_string().contains("ends by itself"), "{refused}");
    }
    assert!(house.accounts.revocations().is_empty());
    let channel = Channel { boot_id: Some(77), ..Channel::default() };
    house.validate_over(&own, &channel).unwrap();
}

#[test]
fn what_is_taken_back_while_the_clock_is_behind_stays_so_when_it_is_right() {
    let mut house = House::new();
    house.user("alice", "correct horse", &["x"]);
    let for_board = TokenRequest { audience: "imu".to_owned(), ..TokenRequest::new("alice", &["x"]) };
    house.accounts.mint(&for_board).unwrap();
    let (token, viewers) = (house.password("alice", "correct horse", "a").unwrap(), house.token("viewer"));
    house.clock.store(100, Ordering::Relaxed);
    house.restart();
    house.accounts.revoke_all(&RevokeAll::Subject("alice".to_owned())).unwrap();
    let early = house.password("alice", "correct horse", "a").unwrap();
    house.validate(&early).unwrap();
    let told = house.accounts.revocations();
    assert!(told.contains(&("alice".to_owned(), start())), "boards too: {told:?}");
    house.clock.store(start() + 5, Ordering::Relaxed);
    assert!(house.validate(&token).is_err());
    house.validate(&viewers).unwrap();
    house.clock.store(100, Ordering::Relaxed);
    house.accounts.revoke_all(&RevokeAll::KeyEpoch(0)).unwrap();
    house.clock.store(start() + 5, Ordering::Relaxed);
    assert!(house.validate(&viewers).is_err());
}

#[test]
fn what_was_forgotten_while_the_clock_was_ahead_is_void_and_new_logins_count_when_it_is_right() {
    let mut house = House::new();
    house.user("alice", "correct horse", &["x"]);
    let token = house.password("alice", "correct horse", "a").unwrap();
    house.accounts.revoke_token(&token).unwrap();
    house.pass(5000 * DAY);
    for _ in 0..2 {
        let late = house.password("alice", "correct horse", "a").unwrap();
        house.accounts.revoke_token(&late).unwrap();
    }
    house.accounts.revoke_all(&RevokeAll::Subject("alice".to_owned())).unwrap();
    house.clock.store(start() + 5, Ordering::Relaxed);
    for _ in 0..2 {
        assert!(house.validate(&token).is_err());
        let again = house.password("alice", "correct horse", "a").unwrap();
        let again = house.refresh(&again).unwrap();
        house.validate(&again).unwrap();
        house.restart();
    }
}

#[test]
fn a_key_that_comes_back_with_other_bytes_ends_the_grants_of_the_one_before() {
    let house = House::new();
    let path = house.directory.path().join("root.key");
    let channel = Channel { boot_id: Some(77), ..Channel::default() };
    let login = house.validate(&house.token("viewer")).unwrap();
    let board = house.validate_over(&proof(&house, "imu", start()), &channel).unwrap();
    house.accounts.reload().unwrap();
    let are_live = || [&login, &board].map(|grant| house.accounts.is_live(grant, house.now()));
    assert_eq!(are_live(), [true; 2], "the same bytes are the same key");
    std::fs::remove_file(&path).unwrap();
    KeyFile::open_or_create(&path).unwrap();
    house.accounts.reload().unwrap();
    assert_eq!(are_live(), [false; 2]);
    let login = house.validate(&house.token("viewer")).unwrap();
    let board = house.validate_over(&proof(&house, "imu", start()), &channel).unwrap();
    assert!([&login, &board].iter().all(|grant| house.accounts.is_live(grant, house.now())));
}

#[test]
fn a_lost_store_lets_in_nobody_who_was_taken_back() {
    let mut house = House::new();
    let token = house.token("viewer");
    let path = house.directory.path().join("accounts.json");
    assert!(!Store::open_or_replace(&path).unwrap().1, "what is there is not replaced");
    house.accounts.revoke_token(&token).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(Store::open_or_replace(&path).unwrap().1);
    house.restart();
    assert!(house.validate(&token).is_err());
    house.validate(&house.token("viewer")).unwrap();
}
