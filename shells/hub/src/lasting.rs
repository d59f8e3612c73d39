//! What lasts longer than a message: sessions, subscriptions, names. When accounts or the policy change, each is asked
//! about again, and what may not go on ends at once; its owner is told.

use visorbus_auth::{AuditKind, Denial};
use visorbus_core::auth::{Access, Grant, Operation, Refusal};
use visorbus_core::bus::{self, Lasting, Revoked};
use visorbus_core::message::{Address, Message, Pattern};
use visorbus_core::{Instant, MessagePriority};

use crate::admission::for_boards;
use crate::gate::Gate;
use crate::hub::{BUS_ADDRESS, Hub};
use crate::info::Ended;
use crate::owned::Error;
use crate::peer::{Peer, Presence};
use crate::peers::PeerKey;

impl Hub {
    /// Asks about everything again.
    pub(crate) fn recheck(&mut self, now: Instant) -> Ended {
        let sessions = self.cut_off_unproven(now) + self.cut_off_void(now);
        let mut ended = Ended { sessions, ..Ended::default() };
        for key in self.peers.keys() {
            for (what, name, reason) in self.lost(key, now) {
                match what {
                    Lasting::Subscription => ended.subscriptions += 1,
                    Lasting::Component => ended.components += 1,
                }
                self.take_away(key, what, &name, &reason);
            }
        }
        self.recheck_at = self.policy_changes(now);
        self.recheck_from = now.plus_millis(RECHECK_GAP_MS);
        self.tell_new_revocations();
        ended
    }

    /// Tells all boards that check tokens themselves what was taken back since the last time.
    fn tell_new_revocations(&mut self) {
        let revocations = for_boards(self.config.auth.revocations());
        let is_new = |(subject, void_up_to): &&(String, u64)| {
            let mut told = self.told_revocations.iter();
            !told.any(|(known, until)| known == subject && until >= void_up_to)
        };
        let new: Vec<_> = revocations.iter().filter(is_new).cloned().collect();
        self.told_revocations = revocations;
        if new.is_empty() {
            return;
        }
        let checks = |peer: &Peer| {
            peer.presence == Presence::Here
                && peer.session.is_ready()
                && peer.session.remote().is_some_and(|remote| remote.requires_authentication)
        };
        let boards: Vec<PeerKey> =
            self.peers.iter().filter(|(_, peer)| checks(peer)).map(|(key, _)| key).collect();
        for key in boards {
            for revocation in &new {
                self.tell_revocation(key, revocation);
            }
        }
    }

    /// Ends the sessions on lines whose key is not among the hub's any more.
    fn cut_off_unproven(&mut self, now: Instant) -> u32 {
        let mut ended = 0;
        for key in self.peers.keys() {
            let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.options.keyed) else { continue };
            peer.link.recheck();
            if peer.proven.is_some() && peer.link.proven().is_none() {
                ended += u32::from(peer.session.is_open());
                self.follow_link_key(key, now);
            }
        }
        ended
    }

    /// Cuts off the sessions whose token is void by now, or has expired some time ago.
    pub(crate) fn cut_off_void(&mut self, now: Instant) -> u32 {
        let unix_s = self.unix_s(now);
        let why = |peer: &Peer| {
            let grant = peer.session.grant().filter(|_| peer.presence == Presence::Here)?;
            if !self.config.auth.is_live(grant, unix_s) {
                return Some(REVOKED);
            }
            let over = grant.expires().saturating_add(self.config.limits.expired_s.into());
            (over <= unix_s).then_some(EXPIRED)
        };
        let void: Vec<(PeerKey, &str)> =
            self.peers.iter().filter_map(|(key, peer)| Some((key, why(peer)?))).collect();
        for (key, why) in &void {
            self.cut_off(*key, why);
        }
        void.len() as u32
    }

    /// What the new grant of a session allows lasts as long as it.
    pub(crate) fn renew_lasting(&mut self, key: PeerKey, now: Instant) {
        let unix_s = self.unix_s(now);
        let Some(peer) = self.peers.get(key) else { return };
        let Some(grant) = peer.session.grant().cloned() else { return };
        let gate = Gate::new(&*self.config.policy, &self.peers, key, None, unix_s);
        let is_better =
            |old: &Grant| old.expires() <= grant.expires() || !self.config.auth.is_live(old, unix_s);
        let subscriptions: Vec<bool> = peer
            .subscriptions
            .iter()
            .map(|own| {
                is_better(&own.grant) && may_go_on(&gate, Operation::Subscribe, &own.pattern).is_none()
            })
            .collect();
        let components: Vec<bool> = peer
            .components
            .iter()
            .map(|own| is_better(&own.grant) && may_go_on(&gate, Operation::Register, &own.name).is_none())
            .collect();
        let Some(peer) = self.peers.get_mut(key) else { return };
        for (own, _) in peer.subscriptions.iter_mut().zip(subscriptions).filter(|(_, renewed)| *renewed) {
            (*own.grant).clone_from(&grant);
            own.until = grant.expires();
        }
        for (own, _) in peer.components.iter_mut().zip(components).filter(|(_, renewed)| *renewed) {
            (*own.grant).clone_from(&grant);
        }
    }

    /// Ends a session whose token counts no longer: it is told, nothing more is taken from it, and nothing of it goes on.
    fn cut_off(&mut self, key: PeerKey, why: &str) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let lossy = peer.options.lossy;
        if !lossy {
            let error = Error::Authentication(why.to_owned());
            self.send_error(key, &Message::request(0, BUS_ADDRESS), &error);
        }
        if let Some(pool) = &mut self.pool {
            pool.cancel_all(key);
        }
        let event = self.event(AuditKind::CutOff, key).reason(why);
        self.audit(&event);
        // A board says hello again, and proves itself anew if it can.
        self.peers.dismiss(key, why);
    }

    /// What a session has and may not have any more, and why.
    fn lost(&self, key: PeerKey, now: Instant) -> Vec<(Lasting, String, String)> {
        let unix_s = self.unix_s(now);
        let Some(peer) = self.peers.get(key).filter(|peer| peer.presence == Presence::Here) else {
            return Vec::new();
        };
        let why = |grant: &Grant, operation, pattern: &str| {
            if !self.config.auth.is_live(grant, unix_s) {
                return Some(REVOKED.to_owned());
            }
            let gate = Gate::new(&*self.config.policy, &self.peers, key, Some(grant), unix_s);
            may_go_on(&gate, operation, pattern)
        };
        let subscriptions = peer.subscriptions.iter().filter_map(|own| {
            let reason = why(&own.grant, Operation::Subscribe, &own.pattern)?;
            Some((Lasting::Subscription, own.pattern.clone(), reason))
        });
        let components = peer.components.iter().filter_map(|own| {
            let reason = why(&own.grant, Operation::Register, &own.name)?;
            Some((Lasting::Component, own.name.clone(), reason))
        });
        subscriptions.chain(components).collect()
    }

    fn take_away(&mut self, key: PeerKey, what: Lasting, name: &str, reason: &str) {
        let operation = match what {
            Lasting::Subscription => Operation::Subscribe,
            Lasting::Component => Operation::Register,
        };
        let event = self.event(AuditKind::CutOff, key).asked(operation.as_str(), name).reason(reason);
        self.audit(&event);
        let Some(peer) = self.peers.get_mut(key) else { return };
        match what {
            Lasting::Subscription => {
                peer.subscriptions.retain(|own| own.pattern != name);
                self.matches.clear();
            }
            Lasting::Component => self.remove_component(key, name),
        }
        let Ok(payload) = self.value_for(key, &Revoked { what, name, reason }) else { return };
        let mut notice = Message::notification(self.take_id(), const { Address::literal(bus::REVOKED) });
        notice.source = Some(BUS_ADDRESS);
        notice.flags.priority = MessagePriority::High;
        self.send_notice(key, &notice.with_payload(payload.borrow()));
    }

    /// When a time window of the policy next begins or ends.
    fn policy_changes(&self, now: Instant) -> Option<Instant> {
        let unix_s = self.unix_s(now);
        let at = self.config.policy.next_change(unix_s)?.max(unix_s + 1);
        let since_start = at.saturating_mul(1_000_000).saturating_sub(self.start_unix_us);
        Some(Instant::from_micros(since_start))
    }
}

/// Why something may not go on; `None` when it may. One whose token has only expired waits for a new token.
fn may_go_on(gate: &Gate<'_>, operation: Operation, pattern: &str) -> Option<String> {
    let pattern = Pattern::new(pattern).ok()?;
    match gate.would(operation, pattern, Access::Permission) {
        Ok(()) | Err(Denial::Refused(Refusal::Expired)) => None,
        Err(denial) => Some(denial.to_string()),
    }
}

const REVOKED: &str = "the token was revoked: get a new one and authenticate again";
const EXPIRED: &str = "the token has expired and was not renewed: get a new one and authenticate again";
/// From a look at everything to the next that sessions bring about by what they do with their own tokens.
const RECHECK_GAP_MS: u32 = 20;
