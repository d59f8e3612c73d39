//! Passwords: how they are hashed, and how much of the machine that may take. Knows no users.

use std::sync::{Condvar, Mutex, PoisonError};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::{Error, Result, Secret};

/// The PHC string of a password's hash, with a random salt.
///
/// # Errors
/// `Message` when it is empty or too long, or the machine is busy with others.
pub(crate) fn hash(password: &Secret) -> Result<Secret> {
    if password.expose().is_empty() || password.expose().len() > MAX_PASSWORD {
        return Err(Error::Message(format!("a password has 1 to {MAX_PASSWORD} bytes of UTF-8")));
    }
    let _turn = TURNS.take().ok_or_else(busy)?;
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    let hash = argon2().hash_password_with_salt(password.expose().as_bytes(), &salt);
    let hash = hash.map_err(|e| Error::Internal(format!("the password could not be hashed: {e}")))?;
    Ok(Secret::new(hash.to_string()))
}

/// Whether `password` is the one of `stored`. Without one takes as long, and says no.
///
/// # Errors
/// `Message` when the machine is busy with others: then nothing was looked at.
pub(crate) fn verify(password: &Secret, stored: Option<&Secret>) -> Result<bool> {
    // Looked at before anything is hashed. It depends on what was sent alone, so it tells nothing of the user.
    if password.expose().len() > MAX_PASSWORD {
        return Ok(false);
    }
    let _turn = TURNS.take().ok_or_else(busy)?;
    let bytes = password.expose().as_bytes();
    let Some(hash) = stored.and_then(|stored| PasswordHash::new(stored.expose()).ok()) else {
        let mut out = zeroize::Zeroizing::new([0; Params::DEFAULT_OUTPUT_LEN]);
        // As long as a real one; what comes out is nobody's.
        let _ = argon2().hash_password_into(bytes, &[0; SALT_LEN], &mut *out);
        std::hint::black_box(&*out);
        return Ok(false);
    };
    Ok(argon2().verify_password(bytes, &hash).is_ok())
}

/// Whether a stored hash is not of today's parameters, so that the next login should make it anew.
pub(crate) fn is_outdated(stored: &Secret) -> bool {
    let Ok(hash) = PasswordHash::new(stored.expose()) else { return true };
    let today = hash.algorithm == Algorithm::Argon2id.ident() && hash.version == Some(Version::V0x13.into());
    !today || Params::try_from(&hash).map_or(true, |params| !is_today(&params))
}

fn is_today(params: &Params) -> bool {
    (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES)
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or(Params::DEFAULT);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn busy() -> Error {
    Error::Message("too many passwords are being checked right now: try again in a second".to_owned())
}

/// Turns at something costly: so many at once, so many waiting, the others are sent away.
struct Turns {
    /// How many have a turn, and how many wait.
    counts: Mutex<(usize, usize)>,
    left: Condvar,
}

impl Turns {
    const fn new() -> Self {
        Self { counts: Mutex::new((0, 0)), left: Condvar::new() }
    }

    /// Waits for a turn; `None` when too many wait already.
    fn take(&self) -> Option<Turn<'_>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.0 >= MAX_AT_ONCE {
            if counts.1 >= MAX_WAITING {
                return None;
            }
            counts.1 += 1;
            let held = self.left.wait_while(counts, |counts| counts.0 >= MAX_AT_ONCE);
            counts = held.unwrap_or_else(PoisonError::into_inner);
            counts.1 -= 1;
        }
        counts.0 += 1;
        Some(Turn(self))
    }
}

/// A turn, until dropped.
struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
        self.0.left.notify_one();
    }
}

/// For the whole process, whatever hubs and stores there are.
static TURNS: Turns = Turns::new();

/// Argon2id with 19 MiB, two passes, one lane: the least that OWASP's Password Storage Cheat Sheet recommends, and what
/// RFC 9106 calls its second choice in spirit. About 20 to 110 ms.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Bytes, as RFC 9106 (section 3.1) recommends.
const SALT_LEN: usize = 16;
/// Bytes of a password: long texts cost time and serve nobody.
pub(crate) const MAX_PASSWORD: usize = 256;
/// Hashes at once: they take 19 MiB and one processor each.
const MAX_AT_ONCE: usize = 2;
/// Who waits keeps a thread of the hub's pool.
const MAX_WAITING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn a_password_is_its_own_and_no_other() {
        let stored = hash(&secret("correct horse")).unwrap();
        assert!(stored.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "the form is public");
        assert!(verify(&secret("correct horse"), Some(&stored)).unwrap());
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!verify(&secret(wrong), Some(&stored)).unwrap());
        }
        assert_ne!(hash(&secret("correct horse")).unwrap(), stored, "the salt is random");
        assert!(!verify(&secret("correct horse"), None).unwrap());
        assert!(!verify(&secret("x"), Some(&secret("damaged"))).unwrap());
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_hashed() {
        assert!(hash(&secret(&"x".repeat(MAX_PASSWORD + 1))).is_err() && hash(&secret("")).is_err());
        let stored = hash(&secret(&"x".repeat(MAX_PASSWORD))).unwrap();
        assert!(!verify(&secret(&"x".repeat(1 << 20)), Some(&stored)).unwrap());
    }

    #[test]
    fn a_hash_of_other_parameters_is_outdated() {
        assert!(!is_outdated(&hash(&secret("a")).unwrap()));
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let weak = weak.hash_password_with_salt(b"a", &[1; 16]).unwrap().to_string();
        assert!(is_outdated(&secret(&weak)) && is_outdated(&secret("")));
    }

    #[test]
    fn two_have_a_turn_and_sixteen_wait_and_the_others_are_sent_away() {
        let turns = Turns::new();
        let (first, second) = (turns.take().unwrap(), turns.take().unwrap());
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..MAX_WAITING).map(|_| scope.spawn(|| turns.take().is_some())).collect();
            while turns.counts.lock().unwrap().1 < MAX_WAITING {
                std::thread::yield_now();
            }
            assert!(turns.take().is_none());
            drop((first, second));
            assert!(waiting.into_iter().all(|waiter| waiter.join().unwrap()));
        });
        assert_eq!(*turns.counts.lock().unwrap(), (0, 0));
    }
}
