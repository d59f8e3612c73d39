//! What the figures are: every name that is measured here, with its unit and its name for Prometheus.

use crate::monitoring::metric::MetricKind::{self, Counter, Gauge};

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descriptor {
    /// Its name, such as `machine.cpu_percent`.
    pub name: &'static str,
    /// Whether it only rises.
    pub kind: MetricKind,
    /// Its unit: `bytes`, `seconds`, `percent`; empty for what is counted.
    pub unit: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// Its name by the conventions of Prometheus: base units, `_total` at the end of a counter.
    pub prometheus: &'static str,
    /// By what its value is multiplied to be in the unit of that name.
    pub factor: f64,
}

/// Every figure that is measured here, in the order in which they are shown.
pub const fn catalogue() -> &'static [Descriptor] {
    CATALOGUE
}

/// What the figures of a name are.
pub fn describe(name: &str) -> Option<&'static Descriptor> {
    CATALOGUE.iter().find(|descriptor| descriptor.name == name)
}

const fn row(
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    prometheus: &'static str,
    help: &'static str,
) -> Descriptor {
    Descriptor { name, kind, unit, help, prometheus, factor: 1.0 }
}

const fn percent(name: &'static str, prometheus: &'static str, help: &'static str) -> Descriptor {
    Descriptor { factor: 0.01, ..row(name, Gauge, "percent", prometheus, help) }
}

const CATALOGUE: &[Descriptor] = &[
    row(
        "hub.messages_in",
        Counter,
        "",
        "visorbus_hub_received_messages_total",
        "Messages taken from peers, by type.",
    ),
    row(
        "hub.messages_out",
        Counter,
        "",
        "visorbus_hub_sent_messages_total",
        "Messages given to peers, by type.",
    ),
    row("hub.bytes_in", Counter, "bytes", "visorbus_hub_received_bytes_total", "Bytes taken from peers."),
    row("hub.bytes_out", Counter, "bytes", "visorbus_hub_sent_bytes_total", "Bytes given to peers."),
    row(
        "hub.refused",
        Counter,
        "",
        "visorbus_hub_refused_messages_total",
        "Messages that were refused, by reason.",
    ),
    row(
        "hub.auth_refusals",
        Counter,
        "",
        "visorbus_hub_auth_refusals_total",
        "Times that somebody could not prove who they are.",
    ),
    row(
        "hub.undecodable",
        Counter,
        "",
        "visorbus_hub_undecodable_frames_total",
        "Frames that were no message.",
    ),
    row(
        "hub.missed",
        Counter,
        "",
        "visorbus_hub_missed_notifications_total",
        "Notifications that subscribers missed because they did not read.",
    ),
    row(
        "hub.late",
        Counter,
        "",
        "visorbus_hub_late_answers_total",
        "Answers that came too late or to nothing.",
    ),
    row(
        "hub.timeouts",
        Counter,
        "",
        "visorbus_hub_timeouts_total",
        "Requests that were not answered in time.",
    ),
    row("hub.peers", Gauge, "", "visorbus_hub_peers", "Connections."),
    row(
        "hub.sessions",
        Gauge,
        "",
        "visorbus_hub_sessions",
        "Connections whose other end has proven its name.",
    ),
    row(
        "hub.queued_bytes",
        Gauge,
        "bytes",
        "visorbus_hub_queued_bytes",
        "Bytes that wait for peers, with what it costs to keep them.",
    ),
    row(
        "hub.deepest_queue_bytes",
        Gauge,
        "bytes",
        "visorbus_hub_deepest_queue_bytes",
        "The most of these that wait for one peer.",
    ),
    row(
        "hub.pending_calls",
        Gauge,
        "",
        "visorbus_hub_pending_calls",
        "Requests that wait for their answers.",
    ),
    row(
        "hub.pool_running",
        Gauge,
        "",
        "visorbus_hub_pool_running",
        "Messages that handlers on the pool work on.",
    ),
    row(
        "hub.pool_waiting",
        Gauge,
        "",
        "visorbus_hub_pool_waiting",
        "Messages that wait for a thread of the pool.",
    ),
    row(
        "hub.stuck_handlers",
        Gauge,
        "",
        "visorbus_hub_stuck_handlers",
        "Handlers that keep a thread of the pool though nobody waits for them any more.",
    ),
    row("hub.uptime_seconds", Gauge, "seconds", "visorbus_hub_uptime_seconds", "Time since the hub started."),
    row(
        "hub.peer_latency_p50_us",
        Gauge,
        "microseconds",
        "",
        "From a request to the answer of a peer, since the last sample: half of them took at most so long.",
    ),
    row(
        "hub.peer_latency_p99_us",
        Gauge,
        "microseconds",
        "",
        "From a request to the answer of a peer, since the last sample: 99 of 100 took at most so long.",
    ),
    row(
        "hub.handler_latency_p50_us",
        Gauge,
        "microseconds",
        "",
        "From a request to the answer of a handler of the hub's, since the last sample: half of them took at most so long.",
    ),
    row(
        "hub.handler_latency_p99_us",
        Gauge,
        "microseconds",
        "",
        "From a request to the answer of a handler of the hub's, since the last sample: 99 of 100 took at most so long.",
    ),
    row(
        "hub.queue_time_p50_us",
        Gauge,
        "microseconds",
        "",
        "How long what was not sent at once waited, since the last sample: half of them took at most so long.",
    ),
    row(
        "hub.queue_time_p99_us",
        Gauge,
        "microseconds",
        "",
        "How long what was not sent at once waited, since the last sample: 99 of 100 took at most so long.",
    ),
    row(
        "address.messages",
        Counter,
        "",
        "visorbus_address_messages_total",
        "Messages to an address that were let through.",
    ),
    row("address.bytes", Counter, "bytes", "visorbus_address_bytes_total", "Bytes of their payloads."),
    row(
        "address.deliveries",
        Counter,
        "",
        "visorbus_address_deliveries_total",
        "Times that a notification was given to a subscriber.",
    ),
    row(
        "address.missed",
        Counter,
        "",
        "visorbus_address_missed_notifications_total",
        "Times that a subscriber missed a notification.",
    ),
    percent(
        "machine.cpu_percent",
        "visorbus_machine_cpu_usage_ratio",
        "How busy all processors are together.",
    ),
    row(
        "machine.load1",
        Gauge,
        "",
        "visorbus_machine_load1",
        "How many tasks ran or wanted to, over a minute.",
    ),
    row("machine.load5", Gauge, "", "visorbus_machine_load5", "The same over five minutes."),
    row(
        "machine.memory_total_bytes",
        Gauge,
        "bytes",
        "visorbus_machine_memory_total_bytes",
        "Memory of the machine.",
    ),
    row(
        "machine.memory_available_bytes",
        Gauge,
        "bytes",
        "visorbus_machine_memory_available_bytes",
        "Memory that programs could still have.",
    ),
    percent("machine.memory_percent", "visorbus_machine_memory_usage_ratio", "Memory that is not available."),
    row("machine.swap_used_bytes", Gauge, "bytes", "visorbus_machine_swap_used_bytes", "Swap in use."),
    row(
        "machine.uptime_seconds",
        Gauge,
        "seconds",
        "visorbus_machine_uptime_seconds",
        "Time since the machine started.",
    ),
    percent(
        "process.cpu_percent",
        "visorbus_process_cpu_usage_ratio",
        "Share of one processor that the hub's process has.",
    ),
    row(
        "process.cpu_seconds",
        Counter,
        "seconds",
        "process_cpu_seconds_total",
        "Processor time of the hub's process.",
    ),
    row(
        "process.resident_memory_bytes",
        Gauge,
        "bytes",
        "process_resident_memory_bytes",
        "Memory of the hub's process that is in RAM.",
    ),
    row(
        "process.virtual_memory_bytes",
        Gauge,
        "bytes",
        "process_virtual_memory_bytes",
        "Address space of the hub's process.",
    ),
    row("process.threads", Gauge, "", "process_threads", "Threads of the hub's process."),
    row("process.open_fds", Gauge, "", "process_open_fds", "Open files and sockets of the hub's process."),
    row("process.max_fds", Gauge, "", "process_max_fds", "Most that the hub's process may have open."),
    percent("process.fds_percent", "visorbus_process_fds_usage_ratio", "Share of what may be open that is."),
    row(
        "process.start_time_seconds",
        Gauge,
        "seconds",
        "process_start_time_seconds",
        "When the hub's process started, in seconds since 1970.",
    ),
    row("peer.frames_in", Counter, "", "visorbus_peer_frames_in_total", "Frames taken from a peer."),
    row("peer.frames_out", Counter, "", "visorbus_peer_frames_out_total", "Frames given to a peer."),
    row("peer.bytes_in", Counter, "bytes", "visorbus_peer_received_bytes_total", "Bytes taken from a peer."),
    row("peer.bytes_out", Counter, "bytes", "visorbus_peer_sent_bytes_total", "Bytes given to a peer."),
    row(
        "peer.undecodable",
        Counter,
        "",
        "visorbus_peer_undecodable_frames_total",
        "Frames of a peer that were no message.",
    ),
    row(
        "peer.refused",
        Counter,
        "",
        "visorbus_peer_refused_messages_total",
        "Messages of a peer that were refused.",
    ),
    row(
        "peer.missed",
        Counter,
        "",
        "visorbus_peer_missed_notifications_total",
        "Notifications that a peer missed because it did not read.",
    ),
    row(
        "peer.late",
        Counter,
        "",
        "visorbus_peer_late_answers_total",
        "Answers of a peer that came too late or to nothing.",
    ),
    row("peer.sessions", Counter, "", "visorbus_peer_sessions_total", "Times that a peer's session began."),
    row("peer.line_faults", Counter, "", "visorbus_peer_line_faults_total", "Faults of a peer's line."),
    row(
        "peer.clock_restarts",
        Counter,
        "",
        "visorbus_peer_clock_restarts_total",
        "Times that a board's clock stepped.",
    ),
    row(
        "peer.queued_bytes",
        Gauge,
        "bytes",
        "visorbus_peer_queued_bytes",
        "Bytes that wait for a peer, with what it costs to keep them.",
    ),
    Descriptor {
        factor: 1e-6,
        ..row(
            "peer.clock_bound_us",
            Gauge,
            "microseconds",
            "visorbus_peer_clock_bound_seconds",
            "By how much what is known of a board's clock may be wrong.",
        )
    },
    Descriptor {
        factor: 1e-9,
        ..row(
            "peer.clock_drift_ppb",
            Gauge,
            "billionths",
            "visorbus_peer_clock_drift_ratio",
            "What a board's clock gains on the hub's.",
        )
    },
    row("monitoring.series", Gauge, "", "visorbus_monitoring_series", "Figures of the last sample."),
    row(
        "monitoring.left_out",
        Gauge,
        "",
        "visorbus_monitoring_left_out",
        "Figures for which there was no room.",
    ),
    row(
        "monitoring.history_bytes",
        Gauge,
        "bytes",
        "visorbus_monitoring_history_bytes",
        "Bytes of the history.",
    ),
];
