//! The figures of the hub's peers, the boards among them.

use visorbus_hub::info::{ClockInfo, PeerInfo};

use crate::monitoring::metric::Metric;

/// The figures of `peers`. Those that have proven no name have none: whoever connects could make up any number of
/// figures otherwise.
pub(crate) fn peer_metrics(peers: &[PeerInfo]) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for peer in peers.iter().filter(|peer| peer.authenticated) {
        push_peer(peer, &mut metrics);
    }
    metrics
}

fn push_peer(peer: &PeerInfo, metrics: &mut Vec<Metric>) {
    let counters = [
        ("peer.frames_in", peer.frames_in),
        ("peer.frames_out", peer.frames_out),
        ("peer.bytes_in", peer.bytes_in),
        ("peer.bytes_out", peer.bytes_out),
        ("peer.undecodable", peer.undecodable),
        ("peer.refused", peer.refused),
        ("peer.missed", peer.missed),
        ("peer.late", peer.late),
        ("peer.sessions", peer.sessions),
    ];
    let of = |metric: Metric| metric.with("peer", &peer.name);
    metrics.extend(counters.map(|(name, value)| of(Metric::counter(name, value))));
    #[expect(clippy::cast_precision_loss, reason = "no queue is so long")]
    metrics.push(of(Metric::gauge("peer.queued_bytes", peer.queued_bytes as f64)));
    let faults = peer
        .faults
        .iter()
        .map(|fault| Metric::counter("peer.line_faults", fault.count).with("fault", &fault.name));
    metrics.extend(faults.map(of));
    metrics.extend(peer.clock.iter().flat_map(clock_metrics).map(of));
}

fn clock_metrics(clock: &ClockInfo) -> impl Iterator<Item = Metric> + use<> {
    let bound = clock.bound_us.map(|us| Metric::gauge("peer.clock_bound_us", us.into()));
    let drift = clock.drift_ppb.map(|ppb| Metric::gauge("peer.clock_drift_ppb", ppb.into()));
    let restarts = Metric::counter("peer.clock_restarts", clock.restarts);
    [bound, drift, Some(restarts)].into_iter().flatten()
}
