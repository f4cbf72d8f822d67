//! Generated packets through the loaded programs and the host instantiation, which must agree on everything, and other parsers, which must
//! agree with both on what came out. Needs root, and scapy.
//!
//! `cargo xtask differential` runs this with more packets, another seed or one frame, by the variables VIP_LB_TEST_PACKETS,
//! VIP_LB_TEST_SEED, VIP_LB_TEST_FRAME and VIP_LB_TEST_JSON.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use vip_lb_tests::{
    fuzz,
    packet::{NODE_MAC, eth},
    program::{
        Dice, Program,
        differential::{self, Sample, from_hex, hex},
    },
};
use xtask::figures::{Figure, Report};

/// Packets of a run that nobody asked for more of.
const PACKETS: usize = 100_000;
/// Frames that scapy must have had an opinion of.
const SAMPLES_AT_LEAST: usize = 300;
/// The frames of an input, each with the program that it meets.
type FramesOf = fn(&[u8]) -> Vec<(Program, Vec<u8>)>;

/// The system's, which has the packages that set-up installed.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn kernel_host_and_other_parsers_agree_on_generated_packets() {
    if let Ok(frame) = env::var("VIP_LB_TEST_FRAME") {
        let (program, digits) = match frame.strip_prefix("decap:") {
            Some(digits) => (Program::Decapsulator, digits),
            None => (Program::Balancer, &frame[..]),
        };
        let outcomes = differential::run_frames(&[(program, from_hex(digits).unwrap())]);
        println!("{:#?}", outcomes.unwrap_or_else(|difference| panic!("{difference}")));
        return;
    }
    let packets = env::var("VIP_LB_TEST_PACKETS")
        .map_or(PACKETS, |text| text.parse().expect("VIP_LB_TEST_PACKETS is a number"));
    let dice = Dice::from_environment();
    let name = format!("cargo xtask differential --packets {packets} --seed {}", dice.seed());
    println!("{name}");
    let report = differential::run(packets, dice, &name);
    println!("{:#?}", report.verdicts);

    let figures = vec![
        Figure::new("differential.packets", report.packets as f64, "packets")
            .aim(&format!(">= {packets}"))
            .unwrap(),
        Figure::new("differential.disagreements", report.disagreements.len() as f64, "packets")
            .aim("== 0")
            .unwrap(),
        Figure::new("differential.samples", report.samples.len() as f64, "frames"),
    ];
    for figure in &figures {
        println!("{} {} {}", figure.name, figure.value, figure.unit);
    }
    if let Ok(path) = env::var("VIP_LB_TEST_JSON") {
        Report::new(figures).write(Path::new(&path)).unwrap();
    }
    assert!(report.disagreements.is_empty(), "{}", report.disagreements.join("\n"));
    if packets >= PACKETS {
        assert!(report.samples.len() >= SAMPLES_AT_LEAST, "only {} samples", report.samples.len());
    }
    // A guest has no Python: there the frames of kernel and host are compared, which scapy has judged elsewhere.
    if env::var_os("VIP_LB_TEST_PATIENCE").is_none() {
        let verdict = ask_scapy(&report.samples);
        assert!(verdict.is_ok(), "{name}\n{}", verdict.unwrap_err());
    }
}

#[test]
fn scapy_finds_fault_with_every_changed_byte() {
    let input = eth().ipv4("192.0.2.7", "10.77.1.1").tcp(1000, 80).payload(b"x").bytes();
    let outcomes = differential::run_frames(&[(Program::Balancer, input.clone())]).unwrap();
    let [outcome] = &outcomes[..] else { panic!("one frame has one outcome") };
    let sample = |output: &[u8]| Sample {
        verdict: outcome.verdict.name(),
        input: hex(&input),
        output: hex(output),
        node_mac: hex(&NODE_MAC),
        virtual_macs: std::collections::BTreeMap::new(),
        tunnels: Vec::new(),
        gue_port: 6080,
    };
    assert_eq!(ask_scapy(&[sample(&outcome.frame)]), Ok(()));
    let changed = |at: usize| {
        let mut changed = outcome.frame.clone();
        changed[at] ^= 1;
        sample(&changed)
    };
    // MAC addresses are etherparse's to judge.
    let samples: Vec<Sample> = (12..outcome.frame.len()).map(changed).collect();
    let text = ask_scapy(&samples).unwrap_err();
    assert!(text.contains(&format!("{0} frames, {0} faults", samples.len())), "{text}");
}

#[test]
fn kernel_and_host_agree_on_the_corpus_of_the_fuzzers() {
    for target in fuzz::TARGETS {
        let frames: FramesOf = match target.name {
            "pipeline" => |data| {
                let frames = fuzz::pipeline::frames(data);
                frames.into_iter().map(|frame| (Program::Balancer, frame.to_vec())).collect()
            },
            "decap" => |data| vec![(Program::Decapsulator, data.to_vec())],
            _ => continue,
        };
        let mut all = Vec::new();
        for (_, data) in target.corpus().unwrap() {
            all.extend(frames(&data).into_iter().filter(|(_, frame)| frame.len() >= 14));
        }
        assert!(all.len() >= target.files_at_least, "{}: only {} frames", target.name, all.len());
        differential::run_frames(&all).unwrap_or_else(|difference| panic!("{}: {difference}", target.name));
    }
}

/// Has scapy take apart and put together again what came out.
fn ask_scapy(samples: &[Sample]) -> Result<(), String> {
    let lines: Vec<String> = samples.iter().map(|sample| serde_json::to_string(sample).unwrap()).collect();
    let file = env::temp_dir().join(format!("vip-lb-samples-{}-{}.jsonl", std::process::id(), samples.len()));
    fs::write(&file, lines.join("\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scapy/judge.py");
    let output = Command::new(PYTHON).arg(script).arg(&file).stdin(Stdio::null()).output();
    fs::remove_file(&file).unwrap();
    let output = output.expect("python3 is there: cargo xtask setup");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    if output.status.success() && text.contains(&format!("{} frames, 0 faults", samples.len())) {
        Ok(())
    } else {
        Err(text)
    }
}
