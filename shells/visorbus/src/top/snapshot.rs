//! What the hub said at one moment, and the rows of the tables that are made of it.

use std::collections::BTreeMap;

use serde::Serialize;
use visorbus_hub::info::PeerInfo;
use visorbus_services::monitoring::{Alerts, Health, Metric, Sample};

use crate::monitor::plain;

/// All that is shown.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) health: Health,
    pub(crate) alerts: Alerts,
    pub(crate) sample: Sample,
    pub(crate) peers: Vec<PeerInfo>,
    /// As which peer it was asked.
    #[serde(skip)]
    pub(crate) own_name: String,
}

impl Snapshot {
    /// The value of a figure without labels.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.sample.metric(name).map(|metric| metric.value)
    }

    /// By how much all the counters of a name rise in a second together.
    pub(crate) fn rate(&self, name: &str) -> Option<f64> {
        let of = self.sample.metrics.iter().filter(|metric| metric.name == name);
        of.filter_map(|metric| metric.rate).reduce(|sum, rate| sum + rate)
    }

    /// A row for each peer but this program itself.
    pub(crate) fn peer_rows(&self) -> Vec<Row> {
        let mut rows = self.rows("peer", |row, metric| match metric.name.as_str() {
            "peer.frames_in" => row.numbers[0] = metric.rate.unwrap_or(0.0),
            "peer.frames_out" => row.numbers[1] = metric.rate.unwrap_or(0.0),
            "peer.bytes_in" => row.numbers[2] = metric.rate.unwrap_or(0.0),
            "peer.bytes_out" => row.numbers[3] = metric.rate.unwrap_or(0.0),
            "peer.queued_bytes" => row.numbers[4] = metric.value,
            "peer.missed" => row.numbers[5] = metric.value,
            "peer.refused" | "peer.undecodable" => row.numbers[6] += metric.value,
            _ => {}
        });
        rows.retain(|row| row.name != self.own_name);
        for row in &mut rows {
            let of = self.peers.iter().find(|peer| peer.name == row.name);
            row.kind = of.map(|peer| plain(&peer.transport)).unwrap_or_default();
        }
        rows
    }

    /// A row for each address that something went to.
    pub(crate) fn address_rows(&self) -> Vec<Row> {
        self.rows("address", |row, metric| match metric.name.as_str() {
            "address.messages" => {
                (row.numbers[0], row.numbers[4]) = (metric.rate.unwrap_or(0.0), metric.value)
            }
            "address.bytes" => row.numbers[1] = metric.rate.unwrap_or(0.0),
            "address.deliveries" => row.numbers[2] = metric.rate.unwrap_or(0.0),
            "address.missed" => row.numbers[3] = metric.value,
            _ => {}
        })
    }

    /// A row for each value of `label`, filled from the figures that have it.
    fn rows(&self, label: &str, mut fill: impl FnMut(&mut Row, &Metric)) -> Vec<Row> {
        let mut rows = BTreeMap::<&str, Row>::new();
        for metric in &self.sample.metrics {
            if let Some(of) = metric.labels.iter().find(|of| of.name == label) {
                let new = || Row { name: plain(&of.value), ..Row::default() };
                fill(rows.entry(&of.value).or_insert_with(new), metric);
            }
        }
        rows.into_values().collect()
    }
}

/// A row of a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// How a peer is connected.
    pub(crate) kind: String,
    pub(crate) numbers: [f64; 7],
}
