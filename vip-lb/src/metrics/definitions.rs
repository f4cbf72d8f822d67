//! Every metric there is.

/// What a value does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but begins anew with the maps or the daemon.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts durations by their length; its samples are those of the buckets, of their sum and of their number.
    Histogram,
}

/// A metric: a name for samples that differ in the values of their labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with the unit as its end.
    pub name: &'static str,
    /// What its values do.
    pub kind: Kind,
    /// Names of the labels of every sample.
    pub labels: &'static [&'static str],
    /// What it tells, in a sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(super) static $constant: Metric = Metric {
            name: concat!("vip_lb_", $name),
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric, in the order of the page.
        pub static ALL: &[&Metric] = &[$(&$constant),+];
    };
}

metrics! {
    BUILD_INFO: Gauge "build_info" ["version"] "Always 1; the version of the daemon is a label.";
    START_TIME: Gauge "start_time_seconds" [] "When the daemon started, seconds since the Unix epoch.";
    CONFIG_INFO: Gauge "config_info" ["node", "hash"] "Always 1; the name of the node and the fingerprint of its configuration file are labels.";
    CONFIG_LOADED: Gauge "config_last_reload_success_timestamp_seconds" [] "When the configuration in force was read, seconds since the Unix epoch.";
    CONFIG_SUCCESSFUL: Gauge "config_last_reload_successful" [] "Whether the last reading of the configuration file succeeded.";
    CONFIG_RELOADS: Counter "config_reloads_total" ["result"] "Readings of the configuration file after the first, by their result: success or failure.";
    WARNINGS: Gauge "warnings" [] "Warnings in the status at the moment.";

    NODE_DRAINED: Gauge "node_drained" [] "Whether this node is drained, by configuration or operator: it gives up its VIPs.";
    PEER_CONNECTED: Gauge "peer_connected" ["peer"] "Whether this node and the peer hear each other.";
    PEER_AGREES: Gauge "peer_agrees" ["peer"] "Whether the peer is there and does the same as this node.";
    PEER_MISMATCHES: Gauge "peer_mismatches" ["peer"] "What the peer does otherwise than this node: how many things.";
    PEER_FLOWS: Counter "peer_flows_total" ["what"] "Recorded flows that peers were told (told), that were taken in from them (heard), and that could not be (missed).";
    PEERS_REFUSED: Counter "peers_refused_total" ["reason"] "Connections to the port of peers that came to nothing, by why.";
    INTERFACE: Gauge "interface_attached" ["interface", "mode"] "1 for each interface that the program is attached to; native or generic mode is a label.";
    VIP_ANSWERING: Gauge "vip_answering" ["vip"] "Whether this node answers ARP, neighbour solicitations and ping for the VIP, or publishes a route to it.";
    VIP_SECOND_OWNERS: Gauge "vip_second_owners" ["vip"] "Who else answers for the VIP while this node does: how many hardware addresses.";
    VIP_SECOND_OWNERS_FOUND: Counter "vip_second_owners_found_total" ["vip"] "How often somebody else was found at the VIP.";
    ROUTE_RESTORED: Counter "route_restored_total" ["vip"] "How often somebody else removed or changed the route of the VIP, and it was put back.";
    ROUTE_HINDERED: Gauge "route_hindered" ["vip"] "Whether the route of the VIP should be published, and cannot be.";
    VRRP_STATE: Gauge "vrrp_state" ["vip", "state"] "1 for the state of the VIP's virtual router on this node: initialize, backup or active; the others are 0.";
    VRRP_PRIORITY: Gauge "vrrp_priority" ["vip"] "The priority that this node's adverts say.";
    VRRP_ADVERTS: Counter "vrrp_adverts_total" ["vip", "direction"] "Adverts of the VIP's virtual router: sent by this node, and received of others.";
    VRRP_DISCARDED: Counter "vrrp_adverts_discarded_total" ["vip", "reason"] "Packets of VRRP on the VIP's link that were not heard, by why.";
    VRRP_TRACKER: Gauge "vrrp_tracker_failing" ["vip", "tracker"] "Whether something is not well that the VIP's virtual router depends on.";
    VRRP_HANDED_OVER: Gauge "vrrp_handed_over" ["vip"] "Whether an operator handed the VIP over from this node to another one.";
    VRRP_CONFLICT: Gauge "vrrp_conflict" ["vip"] "Whether another node speaks for the VIP's virtual router, but for other addresses.";
    VRRP_UNHEARD: Gauge "vrrp_unheard" ["vip"] "Whether adverts of another node for the VIP's virtual router arrive at the packet path and do not reach the daemon.";
    PACKETS: Counter "packets_total" ["verdict", "action"] "Packets by how they ended: the verdict, and what it means for the packet.";

    PROBES: Counter "probes_total" [] "Probes of backends that began.";
    PROBES_LATE: Counter "probes_late_total" [] "Probes that began later than due by more than a tenth of their interval: the daemon gets too little time of the processor, or too many wait for answers.";

    SERVICE_INFO: Gauge "service_info" ["service", "vip", "port", "protocol", "affinity"] "Always 1; what the service is by the configuration.";
    SERVICE_PACKETS: Counter "service_packets_total" ["service"] "Packets of clients to the service.";
    SERVICE_BYTES: Counter "service_bytes_total" ["service"] "Bytes of these packets, from the IP header on, as they came in.";
    SERVICE_CONNECTIONS: Counter "service_connections_total" ["service"] "TCP connections begun; UDP flows have no visible beginning and are not counted.";
    SERVICE_SLOTS: Gauge "service_slots" ["service"] "Slots of the service's ring.";
    SERVICE_OPEN_SLOTS: Gauge "service_open_slots" ["service"] "Slots whose backend changed and that still remember the earlier one.";
    SERVICE_RECORDED: Gauge "service_recorded_flows" ["service"] "Entries of FLOWS that belong to the service.";
    SERVICE_NEWBORN: Gauge "service_newborn_flows" ["service"] "Entries of NEWBORN that belong to the service.";
    SERVICE_SURVIVORS: Gauge "service_surviving_flows" ["service"] "Entries of SURVIVORS that belong to the service.";
    SERVICE_HEALTHY: Gauge "service_healthy_backends" ["service"] "Backends that are wanted in service and pass their checks, or have none.";
    SERVICE_WANTED: Gauge "service_wanted_backends" ["service"] "Backends that configuration and operator want in service.";
    SERVICE_NEEDED: Gauge "service_needed_backends" ["service"] "Healthy backends that the service needs (min_healthy).";
    SERVICE_HELD: Gauge "service_held_backends" ["service"] "Backends that are kept although their checks fail, because too many failed at once (max_removed).";
    SERVICE_TIER: Gauge "service_tier" ["service"] "The last tier of backends that is in use.";
    SERVICE_FLOOR: Gauge "service_floor" ["service", "state"] "1 for what holds, 0 for the others: met (enough are healthy), fail_open, fail_closed, backup.";

    BACKEND_INFO: Gauge "backend_info" ["service", "backend", "address", "mode"] "Always 1; what the backend is by the configuration.";
    BACKEND_PACKETS: Counter "backend_packets_total" ["service", "backend"] "Packets sent to the backend.";
    BACKEND_BYTES: Counter "backend_bytes_total" ["service", "backend"] "Bytes of these packets, from the IP header on, as they came in.";
    BACKEND_CONNECTIONS: Counter "backend_connections_total" ["service", "backend"] "TCP connections begun with the backend.";
    BACKEND_UP: Gauge "backend_up" ["service", "backend"] "Whether the backend passes its checks; 1 without a check, 0 before the first verdict.";
    BACKEND_SINCE: Gauge "backend_health_change_timestamp_seconds" ["service", "backend"] "Since when the verdict of the checks is what it is, seconds since the Unix epoch.";
    BACKEND_CHANGES: Counter "backend_health_changes_total" ["service", "backend"] "Changes of the verdict of the checks since the daemon started.";
    BACKEND_PROBE: Gauge "backend_probe_duration_seconds" ["service", "backend"] "How long the last successful probe took; absent before it.";
    BACKEND_CONNECT: Histogram "backend_connect_seconds" ["service", "backend"] "How long good probes took to connect, of kinds that do.";
    BACKEND_PROBES: Histogram "backend_probe_seconds" ["service", "backend"] "How long good probes took as a whole.";
    BACKEND_HANDSHAKE: Histogram "backend_handshake_seconds" ["service", "backend"] "Time from a client's SYN to its acknowledgement of the answer, of sampled connections.";
    BACKEND_SAMPLED: Counter "backend_sampled_connections_total" ["service", "backend"] "Connections looked at from their SYN on.";
    BACKEND_SYN_AGAIN: Counter "backend_repeated_syns_total" ["service", "backend"] "SYNs of these that came again.";
    BACKEND_DATA_AGAIN: Counter "backend_repeated_data_total" ["service", "backend"] "Data of sampled connections that came again, with nothing new acknowledged in between.";
    BACKEND_SILENT: Counter "backend_silence_total" ["service", "backend"] "Data of sampled connections that nothing had followed for a second.";
    BACKEND_SUSPECTED: Counter "backend_suspicions_total" ["service", "backend"] "How often sampled connections let the backend seem not to answer.";
    BACKEND_STATE: Gauge "backend_forwarding" ["service", "backend", "state"] "1 for what the backend gets, 0 for the others: in_ring (all), draining (old flows), out (none).";
    BACKEND_WEIGHT: Gauge "backend_weight" ["service", "backend"] "The backend's configured weight.";
    BACKEND_SLOTS: Gauge "backend_slots" ["service", "backend"] "Slots of the ring that send new flows to the backend.";
    BACKEND_PREVIOUS: Gauge "backend_previous_slots" ["service", "backend"] "Open slots that still send old flows to the backend.";
    BACKEND_RECORDED: Gauge "backend_recorded_flows" ["service", "backend"] "Entries of FLOWS that name the backend.";
    BACKEND_NAT: Gauge "backend_nat_connections" ["service", "backend"] "Translated connections to the backend: each has one of the ports of this node.";
    BACKEND_RATIO: Gauge "backend_weight_ratio" ["service", "backend"] "How much of the weight counts now: less than 1 while the backend returns slowly (slow_start).";
    NAT_PORTS: Gauge "nat_ports" [] "Ports of this node that translated connections to one backend can have.";

    TABLE_ENTRIES: Gauge "table_entries" ["table"] "Entries in the table.";
    TABLE_CAPACITY: Gauge "table_capacity_entries" ["table"] "Entries that the table can hold.";

    BPF_STATISTICS: Gauge "bpf_statistics_enabled" [] "Whether the kernel counts runs of BPF programs (sysctl kernel.bpf_stats_enabled).";
    PROGRAM_RUNS: Counter "program_runs_total" [] "Runs of the packet program that the kernel counted, while it counted.";
    PROGRAM_SECONDS: Counter "program_run_seconds_total" [] "Time spent in these runs, over all CPUs.";
    PROGRAM_VERIFIED: Gauge "program_verified_instructions" [] "Instructions that the kernel's verifier walked through when it loaded the packet program.";
}
