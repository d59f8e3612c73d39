//! The figures of the hub itself.

use visorbus_hub::statistics::{AddressStatistics, ByError, ByType, Histogram, HubStatistics};

use crate::monitoring::metric::Metric;

/// The figures of `now`; `before` is how they were at the sample before, for what is told of the time since.
pub(crate) fn hub_metrics(now: &HubStatistics, before: Option<&HubStatistics>) -> Vec<Metric> {
    let mut metrics = Vec::with_capacity(64);
    push_types("hub.messages_in", &now.messages_in, &mut metrics);
    push_types("hub.messages_out", &now.messages_out, &mut metrics);
    push_refused(&now.refused, &mut metrics);
    let counters = [
        ("hub.bytes_in", now.bytes_in),
        ("hub.bytes_out", now.bytes_out),
        ("hub.auth_refusals", now.auth_refusals),
        ("hub.undecodable", now.undecodable),
        ("hub.missed", now.missed),
        ("hub.late", now.late),
        ("hub.timeouts", now.timeouts),
    ];
    metrics.extend(counters.map(|(name, value)| Metric::counter(name, value)));
    let gauges = [
        ("hub.peers", now.peers),
        ("hub.sessions", now.sessions),
        ("hub.queued_bytes", now.queued_bytes),
        ("hub.deepest_queue_bytes", now.deepest_queue_bytes),
        ("hub.pending_calls", now.pending_calls),
        ("hub.pool_running", now.pool_running),
        ("hub.pool_waiting", now.pool_waiting),
        ("hub.stuck_handlers", now.stuck_handlers),
    ];
    metrics.extend(gauges.map(|(name, value)| Metric::gauge(name, float(value))));
    metrics.push(Metric::gauge("hub.uptime_seconds", float(now.uptime_us) / 1e6));
    let latencies = [
        ("hub.peer_latency_p50_us", "hub.peer_latency_p99_us", latest(now, before, |all| &all.peer_latency)),
        (
            "hub.handler_latency_p50_us",
            "hub.handler_latency_p99_us",
            latest(now, before, |all| &all.handler_latency),
        ),
        ("hub.queue_time_p50_us", "hub.queue_time_p99_us", latest(now, before, |all| &all.queue_time)),
    ];
    for (median, high, since) in latencies {
        metrics.extend(quantile(&since, 0.5).map(|value| Metric::gauge(median, value)));
        metrics.extend(quantile(&since, 0.99).map(|value| Metric::gauge(high, value)));
    }
    metrics.extend(now.addresses.iter().take(MOST_ADDRESSES).flat_map(address_metrics));
    metrics
}

fn push_types(name: &str, by: &ByType, metrics: &mut Vec<Metric>) {
    let types = [
        ("request", by.requests),
        ("response", by.responses),
        ("notification", by.notifications),
        ("error", by.errors),
        ("heartbeat", by.heartbeats),
    ];
    metrics.extend(types.map(|(kind, count)| Metric::counter(name, count).with("type", kind)));
}

fn push_refused(by: &ByError, metrics: &mut Vec<Metric>) {
    let reasons = [
        ("authentication", by.authentication),
        ("authorization", by.authorization),
        ("connection", by.connection),
        ("message", by.message),
        ("timeout", by.timeout),
        ("serialization", by.serialization),
        ("protocol", by.protocol),
        ("internal", by.internal),
    ];
    metrics
        .extend(reasons.map(|(reason, count)| Metric::counter("hub.refused", count).with("reason", reason)));
}

fn address_metrics(of: &AddressStatistics) -> impl Iterator<Item = Metric> {
    let counters = [
        ("address.messages", of.messages),
        ("address.bytes", of.bytes),
        ("address.deliveries", of.deliveries),
        ("address.missed", of.missed),
    ];
    counters.into_iter().map(|(name, value)| Metric::counter(name, value).with("address", &of.address))
}

/// What came into each bucket of a histogram since the sample before.
fn latest(
    now: &HubStatistics,
    before: Option<&HubStatistics>,
    of: impl Fn(&HubStatistics) -> &Histogram,
) -> Vec<u64> {
    since(of(now), before.map(of))
}

/// What came into each bucket since `before`; all of it where the hub is another one.
fn since(now: &Histogram, before: Option<&Histogram>) -> Vec<u64> {
    let before = before.filter(|before| before.count <= now.count).map_or(&[][..], |before| &before.buckets);
    let old = before.iter().chain(std::iter::repeat(&0));
    now.buckets.iter().zip(old).map(|(now, old)| now.saturating_sub(*old)).collect()
}

/// What a `part` of them is below, in µs: the end of the bucket that it falls in. `None` where there are none.
fn quantile(buckets: &[u64], part: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let wanted = (float(all) * part).ceil();
    let mut below = 0;
    let index = buckets.iter().position(|count| {
        below += count;
        all > 0 && float(below) >= wanted
    })?;
    // The last bucket has no end; where it begins is the least that is known.
    Histogram::upper_us(index).or_else(|| Histogram::upper_us(index.checked_sub(1)?)).map(float)
}

#[expect(clippy::cast_precision_loss, reason = "from 2^53 on the last digits are lost, which nobody sees")]
pub(crate) const fn float(value: u64) -> f64 {
    value as f64
}

/// Of so many addresses there are figures; the hub tells of more when it is asked for them alone.
const MOST_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(usize, u64)]) -> Histogram {
        let mut all = Histogram { buckets: vec![0; Histogram::BUCKETS], ..Histogram::default() };
        for (index, count) in buckets {
            all.buckets[*index] = *count;
            all.count += count;
        }
        all
    }

    #[test]
    fn a_quantile_is_that_of_the_time_since_the_last_sample() {
        let before = histogram(&[(10, 1_000)]);
        let now = histogram(&[(3, 99), (5, 1), (10, 1_000)]);
        let since = since(&now, Some(&before));
        assert_eq!(
            (quantile(&since, 0.5), quantile(&since, 0.99), quantile(&since, 1.0)),
            (Some(15.0), Some(15.0), Some(63.0))
        );
    }

    #[test]
    fn without_any_request_there_is_no_latency() {
        let now = histogram(&[(3, 5)]);
        assert_eq!(quantile(&since(&now, Some(&now)), 0.5), None);
        assert_eq!(quantile(&since(&Histogram::default(), None), 0.5), None);
    }

    #[test]
    fn what_took_longer_than_the_last_bucket_begins_is_told_as_that_at_least() {
        let now = histogram(&[(Histogram::BUCKETS - 1, 1)]);
        assert_eq!(quantile(&now.buckets, 0.99), Some(67_108_863.0));
    }
}
