//! Random packets through the loaded programs and the host instantiation, which must agree on everything. Needs root.

use vip_lb_common::abi::Settings;
use vip_lb_tests::program::{
    Dice, Pair, Program, SHORTEST_FRAME,
    cases::{self, Case},
    mutate, traffic,
    world::world,
};

/// Unless `VIP_LB_TEST_PACKETS` says otherwise: an emulated kernel needs longer for each.
const PACKETS: usize = 30_000;
/// Packets after which the settings change and all tables are compared.
const ROUND: usize = 2_000;

#[test]
fn kernel_and_host_agree_on_random_packets() {
    let mut dice = Dice::from_environment();
    println!("VIP_LB_TEST_SEED={}", dice.seed());
    let cases: Vec<Case> = [cases::all(), cases::steer::without_budget()].concat();
    let mut pair = Pair::new(&world());
    let enough = std::env::var("VIP_LB_TEST_PACKETS");
    let enough = enough.map_or(PACKETS, |text| text.parse().expect("VIP_LB_TEST_PACKETS is a number"));
    let mut packets = 0;
    while packets < enough {
        if packets.is_multiple_of(ROUND) {
            begin_round(&mut pair, &mut dice, packets);
        }
        let (program, mut frame) = match dice.below(2) {
            0 => (Program::Balancer, traffic(&mut dice)),
            _ => {
                let case = dice.pick(&cases);
                (case.program, case.frame.clone())
            }
        };
        mutate(&mut dice, &mut frame);
        if frame.len() < SHORTEST_FRAME {
            continue;
        }
        let name = format!("packet {packets} of VIP_LB_TEST_SEED={}", dice.seed());
        pair.run(&name, program, &frame, 0);
        packets += 1;
    }
    pair.compare_tables(&format!("the end of VIP_LB_TEST_SEED={}", dice.seed()));
    println!("{:#?}", pair.state().verdicts);
}

/// Seconds pass, budgets and peers come and go.
fn begin_round(pair: &mut Pair, dice: &mut Dice, packets: usize) {
    pair.compare_tables(&format!("before packet {packets} of VIP_LB_TEST_SEED={}", dice.seed()));
    let settings = pair.settings();
    pair.set_settings(Settings {
        tick: settings.tick + dice.below(3) as u32,
        flags: *dice.pick(&[0, Settings::PEERS]),
        record_budget: *dice.pick(&[0, 3, 50, 1000]),
        survivor_budget: *dice.pick(&[0, 3, 50, 1000]),
        ..settings
    });
}
