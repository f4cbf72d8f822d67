//! Shows where two frames differ, byte by byte, with no parser that could be fooled by them.

use std::fmt::Write as _;

const PER_LINE: usize = 16;

/// Panics with a dump of the differences unless the frames are the same.
#[track_caller]
pub fn assert_same_bytes(case: &str, expected: &[u8], actual: &[u8]) {
    if let Some(diff) = hexdump_diff(expected, actual) {
        panic!("{case}: the frame is not what was expected\n{diff}");
    }
}

/// Both frames in lines of 16 bytes where they differ, none where they are the same.
///
/// `-` marks a line of the expected frame, `+` of the actual one, `^` the bytes in question.
pub fn hexdump_diff(expected: &[u8], actual: &[u8]) -> Option<String> {
    if expected == actual {
        return None;
    }
    let mut text = format!("  expected {} bytes, found {}\n", expected.len(), actual.len());
    for at in (0..expected.len().max(actual.len())).step_by(PER_LINE) {
        let (want, have) = (line(expected, at), line(actual, at));
        if want == have {
            dump(&mut text, ' ', at, want);
            continue;
        }
        dump(&mut text, '-', at, want);
        dump(&mut text, '+', at, have);
        text.push_str("       ");
        for index in 0..want.len().max(have.len()) {
            let differs = want.get(index) != have.get(index);
            text.push_str(if differs { " ^^" } else { "   " });
        }
        text.push('\n');
    }
    Some(text)
}

fn line(frame: &[u8], at: usize) -> &[u8] {
    &frame[at.min(frame.len())..(at + PER_LINE).min(frame.len())]
}

fn dump(text: &mut String, mark: char, at: usize, bytes: &[u8]) {
    let hex: String = bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, " {byte:02x}");
        hex
    });
    let _ = writeln!(text, "{mark} {at:04x}:{hex}");
}
