//! The page against its list of metrics, and the list against its manual.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;
use crate::api::samples;

#[test]
fn every_metric_is_on_the_page_once_with_its_labels() {
    let page = render(&samples::facts());
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let expected: Vec<String> =
        ALL.iter().map(|metric| format!("{} {}", metric.name, word(metric.kind))).collect();
    assert_eq!(headings, expected);
    for metric in ALL {
        let suffix = if metric.kind == Kind::Histogram { "_bucket" } else { "" };
        let name = format!("{}{suffix}", metric.name);
        let sample = page.lines().find(|line| line.split(['{', ' ']).next() == Some(&name));
        let sample = sample.unwrap_or_else(|| panic!("{} has no sample", metric.name));
        for label in metric.labels {
            assert!(sample.contains(&format!("{label}=\"")), "{sample} has no {label}");
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

#[test]
fn no_sample_is_there_twice() {
    let page = render(&samples::facts());
    let series: Vec<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len());
}

#[test]
fn samples_say_what_the_status_says() {
    let page = render(&samples::facts());
    for line in [
        "vip_lb_config_info{node=\"edge1\",hash=\"3f9a12bc\"} 1",
        "vip_lb_config_last_reload_successful 0",
        "vip_lb_config_reloads_total{result=\"success\"} 3",
        "vip_lb_peer_connected{peer=\"192.0.2.12\"} 1",
        "vip_lb_peer_agrees{peer=\"192.0.2.13\"} 0",
        "vip_lb_peer_mismatches{peer=\"192.0.2.13\"} 1",
        "vip_lb_peer_flows_total{what=\"heard\"} 340",
        "vip_lb_peers_refused_total{reason=\"stranger\"} 3",
        "vip_lb_interface_attached{interface=\"eth1\",mode=\"generic\"} 1",
        "vip_lb_vip_answering{vip=\"2001:db8::10\"} 0",
        "vip_lb_vip_second_owners{vip=\"192.0.2.10\"} 1",
        "vip_lb_vip_second_owners_found_total{vip=\"192.0.2.10\"} 3",
        "vip_lb_vip_answering{vip=\"203.0.113.10\"} 1",
        "vip_lb_route_restored_total{vip=\"203.0.113.10\"} 1",
        "vip_lb_route_hindered{vip=\"203.0.113.10\"} 0",
        "vip_lb_vrrp_state{vip=\"2001:db8::10\",state=\"backup\"} 1",
        "vip_lb_vrrp_state{vip=\"2001:db8::10\",state=\"active\"} 0",
        "vip_lb_vrrp_priority{vip=\"2001:db8::10\"} 100",
        "vip_lb_vrrp_adverts_total{vip=\"2001:db8::10\",direction=\"received\"} 7",
        "vip_lb_vrrp_adverts_discarded_total{vip=\"2001:db8::10\",reason=\"ttl\"} 2",
        "vip_lb_vrrp_tracker_failing{vip=\"2001:db8::10\",tracker=\"interface eth1\"} 1",
        "vip_lb_vrrp_handed_over{vip=\"2001:db8::10\"} 1",
        "vip_lb_vrrp_conflict{vip=\"2001:db8::10\"} 0",
        "vip_lb_vrrp_unheard{vip=\"2001:db8::10\"} 0",
        "vip_lb_packets_total{verdict=\"unknown_service\",action=\"drop\"} 17",
        "vip_lb_probes_total 4711",
        "vip_lb_probes_late_total 2",
        "vip_lb_service_info{service=\"dns\",vip=\"2001:db8::10\",port=\"0\",protocol=\"udp\",affinity=\"source\"} 1",
        "vip_lb_service_bytes_total{service=\"web\"} 1975308642",
        "vip_lb_backend_up{service=\"web\",backend=\"b1\"} 1",
        "vip_lb_backend_up{service=\"web\",backend=\"b2\"} 0",
        "vip_lb_backend_up{service=\"web\",backend=\"b3\"} 1",
        "vip_lb_backend_health_changes_total{service=\"web\",backend=\"b2\"} 5",
        "vip_lb_backend_health_changes_total{service=\"web\",backend=\"b1\"} 0",
        "vip_lb_backend_probe_duration_seconds{service=\"web\",backend=\"b1\"} 0.00042",
        "vip_lb_backend_handshake_seconds_bucket{service=\"web\",backend=\"b1\",le=\"0.000256\"} 0",
        "vip_lb_backend_handshake_seconds_bucket{service=\"web\",backend=\"b1\",le=\"0.000512\"} 1",
        "vip_lb_backend_handshake_seconds_bucket{service=\"web\",backend=\"b1\",le=\"+Inf\"} 2",
        "vip_lb_backend_handshake_seconds_sum{service=\"web\",backend=\"b1\"} 0.0703",
        "vip_lb_backend_handshake_seconds_count{service=\"web\",backend=\"b1\"} 2",
        "vip_lb_backend_repeated_syns_total{service=\"web\",backend=\"b1\"} 3",
        "vip_lb_backend_suspicions_total{service=\"web\",backend=\"b1\"} 1",
        "vip_lb_backend_forwarding{service=\"web\",backend=\"b3\",state=\"draining\"} 1",
        "vip_lb_backend_forwarding{service=\"web\",backend=\"b3\",state=\"in_ring\"} 0",
        "vip_lb_backend_previous_slots{service=\"web\",backend=\"b3\"} 41",
        "vip_lb_table_entries{table=\"NEWBORN\"} 32768",
        "vip_lb_table_capacity_entries{table=\"NEWBORN\"} 65536",
        "vip_lb_program_run_seconds_total 0.00025",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("vip_lb_backend_probe_duration_seconds{service=\"web\",backend=\"b2\"}"));
}

/// Names by the conventions of <https://prometheus.io/docs/practices/naming/>.
#[test]
fn names_end_in_their_unit_and_counters_in_total() {
    for metric in ALL {
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        for unit in ["milliseconds", "_ms", "_bits", "percent"] {
            assert!(!metric.name.contains(unit), "{} is not in base units", metric.name);
        }
    }
    assert_eq!(ALL.iter().map(|metric| metric.name).collect::<BTreeSet<_>>().len(), ALL.len());
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn the_manual_has_a_row_for_every_metric() {
    let manual = read("docs/metrics.md");
    let rows: BTreeSet<String> =
        manual.lines().filter(|line| line.starts_with("| `vip_lb_")).map(str::to_owned).collect();
    let expected = ALL.iter().map(|metric| {
        let kind = word(metric.kind);
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)
    });
    assert_eq!(rows, expected.collect());
}

/// The names of metrics in a text.
fn mentioned(text: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    text.split(word).filter(|name| name.starts_with("vip_lb_")).collect()
}

#[test]
fn dashboard_and_alerts_ask_for_nothing_that_is_not_exported() {
    let known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    for (path, at_least) in [
        ("packaging/grafana/vip-lb.json", 20),
        ("packaging/prometheus/alerts.yml", 10),
        ("packaging/prometheus/alerts_test.yml", 10),
    ] {
        let text = read(path);
        let names = mentioned(&text);
        assert!(names.len() >= at_least, "{path} asks for {} metrics only", names.len());
        let unknown: Vec<_> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "{path} asks for {unknown:?}");
    }
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("packaging/grafana/vip-lb.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().filter(|title| !title.is_empty()).expect("a title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is there twice");
        let place = &panel["gridPos"];
        let (x, w) = (place["x"].as_u64().unwrap(), place["w"].as_u64().unwrap());
        assert!(x + w <= 24 && place["h"].as_u64().unwrap() > 0, "{title}: {place}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}: asks for nothing");
        for target in targets {
            assert!(
                target["expr"].as_str().is_some_and(|expr| expr.contains("vip_lb_")),
                "{title}: {target}"
            );
        }
    }
    for variable in ["datasource", "node", "service"] {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert!(variables.iter().any(|of| of["name"] == variable), "no variable {variable}");
    }
}
