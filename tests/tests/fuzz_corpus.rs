//! The committed corpus of the fuzzers, without libFuzzer: every input that once told something is read again.
//!
//! Files whose names begin with `case-` are made from the program cases: `VIP_LB_WRITE_CORPUS=1 cargo test -p vip-lb-tests --test
//! fuzz_corpus` writes them anew. All others were written by hand or found by a fuzzer, and are named after what they show.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs, panic,
};

use vip_lb_tests::{
    fuzz::{self, TARGETS, Target},
    program::{
        Dice, Program,
        cases::{self, Case, Tables},
        mutate,
    },
};

/// Changed inputs of each target.
const INPUTS: usize = 500;
/// Files made of the cases of each verdict: the shortest frames.
const CASES_OF_VERDICT: usize = 4;

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("there is such a target")
}

#[test]
fn every_input_of_the_corpus_is_taken_without_a_fault() {
    for target in TARGETS {
        let files = target.corpus().unwrap();
        assert!(files.len() >= target.files_at_least, "{}: only {} files", target.name, files.len());
        for (name, data) in &files {
            let taken = panic::catch_unwind(|| (target.one)(data));
            assert!(taken.is_ok(), "fuzz/corpus/{}/{name} shows a fault", target.name);
        }
        println!("{}: {} files", target.name, files.len());
    }
}

#[test]
fn inputs_made_of_the_corpus_are_taken_without_a_fault() {
    let mut dice = Dice::from_environment();
    println!("VIP_LB_TEST_SEED={}", dice.seed());
    let inputs = env::var("VIP_LB_TEST_INPUTS")
        .map_or(INPUTS, |text| text.parse().expect("VIP_LB_TEST_INPUTS is a number"));
    for target in TARGETS {
        let files = target.corpus().unwrap();
        for number in 0..inputs {
            let (name, data) = dice.pick(&files);
            let mut data = data.clone();
            // A piece of another input behind or inside of this one, then changed bytes.
            if dice.below(3) == 0 {
                let (_, other) = dice.pick(&files);
                let (from, at) = (dice.below(other.len() + 1), dice.below(data.len() + 1));
                data.splice(at..at, other[from..].iter().copied());
            }
            mutate(&mut dice, &mut data);
            let taken = panic::catch_unwind(|| (target.one)(&data));
            let seed = dice.seed();
            assert!(
                taken.is_ok(),
                "{}: {name}, changed, number {number} of VIP_LB_TEST_SEED={seed}: {data:02x?}",
                target.name
            );
        }
    }
}

#[test]
fn names_of_the_corpus_tell_what_it_shows() {
    for target in TARGETS {
        for (name, data) in target.corpus().unwrap() {
            let (words, _) = name.rsplit_once('.').unwrap_or((&name, ""));
            let told =
                words.len() > 5 && words.contains('-') && !words.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(told, "fuzz/corpus/{}/{name} is not named after what it shows", target.name);
            assert!(data.len() <= 8 << 10, "fuzz/corpus/{}/{name} is not small", target.name);
        }
    }
}

#[test]
fn the_corpus_of_frames_is_that_of_the_cases() {
    let write = env::var_os("VIP_LB_WRITE_CORPUS").is_some();
    for (program, name) in [(Program::Balancer, "pipeline"), (Program::Decapsulator, "decap")] {
        let (target, right) = (target(name), files_of_cases(program));
        if write {
            rewrite(target, &right);
        }
        let found: BTreeMap<String, Vec<u8>> =
            target.corpus().unwrap().into_iter().filter(|(name, _)| name.starts_with("case-")).collect();
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&found), names(&right), "{name}: write them anew, see the head of this file");
        assert!(found == right, "{name}: the bytes of a file are not those of its case");
    }
}

fn rewrite(target: &Target, files: &BTreeMap<String, Vec<u8>>) {
    fs::create_dir_all(target.folder()).unwrap();
    for (name, _) in target.corpus().unwrap() {
        if name.starts_with("case-") {
            fs::remove_file(target.folder().join(name)).unwrap();
        }
    }
    for (name, data) in files {
        fs::write(target.folder().join(name), data).unwrap();
    }
}

fn files_of_cases(program: Program) -> BTreeMap<String, Vec<u8>> {
    let mut by_verdict: BTreeMap<_, Vec<Case>> = BTreeMap::new();
    for case in cases::all() {
        if case.program == program && case.tables == Tables::Filled && case.taken == 0 {
            by_verdict.entry(case.verdict).or_default().push(case);
        }
    }
    let mut files = BTreeMap::new();
    for (verdict, mut cases) in by_verdict {
        cases.sort_by_key(|case| case.frame.len());
        for case in cases.into_iter().take(CASES_OF_VERDICT) {
            let data = match program {
                Program::Balancer => fuzz::pipeline::input(&[case.frame]),
                Program::Decapsulator => case.frame,
            };
            files.insert(format!("case-{}-{}", verdict.name().replace('_', "-"), slug(&case.name)), data);
        }
    }
    files
}

/// Words joined by hyphens.
fn slug(name: &str) -> String {
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}
