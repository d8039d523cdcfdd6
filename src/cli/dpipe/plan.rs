//! What `dpipe` connects: its words as commands, and the lines between them.
//!
//! Between two neighbours run two lines, one to the right and one to the left. A command that
//! processes both is on all of them: on its standard streams to the left, on its alternate ones to
//! the right. One that processes a single direction (`=} command }=`, `={ command {=`) is on that
//! line alone, and the other runs past it.

use std::ffi::{OsStr, OsString};

/// Which lines a command is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Both,
    Right,
    Left,
}

/// The number of a pipe.
pub(super) type Line = usize;

/// A command and its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) words: Vec<OsString>,
    pub(super) input: Line,
    pub(super) output: Line,
    /// The alternate streams of a command in the middle: input and output.
    pub(super) alternate: Option<(Line, Line)>,
}

/// The commands from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) stages: Vec<Stage>,
    /// How many pipes there are.
    pub(super) lines: usize,
}

/// `=` with what is said about the commands before and after it.
struct Joint {
    before: Flow,
    after: Flow,
}

impl Joint {
    fn read(word: &OsStr) -> Option<Self> {
        let (before, after) = word.to_str()?.split_once('=')?;
        let flow = |mark| match mark {
            "" => Some(Flow::Both),
            "}" => Some(Flow::Right),
            "{" => Some(Flow::Left),
            _ => None,
        };
        Some(Self { before: flow(before)?, after: flow(after)? })
    }
}

impl Plan {
    /// Reads the words. Errors: a message to print.
    pub(super) fn read(words: &[OsString]) -> Result<Self, String> {
        let mut commands = vec![Vec::new()];
        let mut joints = Vec::new();
        for word in words {
            match Joint::read(word) {
                Some(joint) => {
                    joints.push(joint);
                    commands.push(Vec::new());
                }
                None => commands.last_mut().into_iter().for_each(|last| last.push(word.clone())),
            }
        }
        if commands.len() < 2 || commands.iter().any(Vec::is_empty) {
            return Err("needs two commands or more with `=` between them".to_owned());
        }
        let flows = flows(&commands, &joints)?;
        Ok(Self::connect(commands, &flows))
    }

    /// Numbers the lines; `flows` are those of the commands in the middle.
    fn connect(commands: Vec<Vec<OsString>>, flows: &[Flow]) -> Self {
        let (mut right, mut left, mut lines) = (0, 1, 2);
        let last = commands.len() - 1;
        let mut stages = Vec::new();
        for (number, words) in commands.into_iter().enumerate() {
            let stage = |input, output, alternate| Stage { words, input, output, alternate };
            stages.push(match flows.get(number.wrapping_sub(1)) {
                _ if number == 0 => stage(left, right, None),
                None => stage(right, left, None),
                _ if number == last => stage(right, left, None),
                Some(Flow::Right) => {
                    let next = take(&mut lines);
                    stage(std::mem::replace(&mut right, next), next, None)
                }
                Some(Flow::Left) => {
                    let next = take(&mut lines);
                    stage(next, std::mem::replace(&mut left, next), None)
                }
                Some(Flow::Both) => {
                    let next = (take(&mut lines), take(&mut lines));
                    let before = (std::mem::replace(&mut right, next.0), left);
                    left = next.1;
                    stage(before.0, before.1, Some((left, right)))
                }
            });
        }
        Self { stages, lines }
    }
}

fn take(lines: &mut usize) -> Line {
    *lines += 1;
    *lines - 1
}

/// The flow of each command in the middle, which both of its sides must say.
fn flows(commands: &[Vec<OsString>], joints: &[Joint]) -> Result<Vec<Flow>, String> {
    let ends = [joints.first().map(|joint| joint.before), joints.last().map(|joint| joint.after)];
    if ends.iter().flatten().any(|flow| *flow != Flow::Both) {
        return Err("the first and the last command are on both lines: plain `=` there".to_owned());
    }
    let pairs = joints.windows(2).zip(&commands[1..]);
    let flow = |(pair, command): (&[Joint], &Vec<OsString>)| match pair {
        [left, right] if left.after == right.before => Ok(left.after),
        _ => Err(format!(
            "{}: one direction is written `=}} command }}=` or `={{ command {{=`",
            command[0].to_string_lossy()
        )),
    };
    pairs.map(flow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Plan, String> {
        Plan::read(&text.split(' ').filter(|w| !w.is_empty()).map(Into::into).collect::<Vec<_>>())
    }

    /// The lines of a command: input, output, the alternate ones.
    type Lines = (Line, Line, Option<(Line, Line)>);

    fn lines(text: &str) -> Vec<Lines> {
        let plan = read(text).expect(text);
        plan.stages.into_iter().map(|stage| (stage.input, stage.output, stage.alternate)).collect()
    }

    #[test]
    fn two_commands_are_crossed() {
        assert_eq!(lines("a x = b y"), [(1, 0, None), (0, 1, None)]);
        assert_eq!(read("a x = b y").expect("a plan").stages[1].words, ["b", "y"]);
    }

    #[test]
    fn a_command_in_the_middle_has_alternate_streams() {
        assert_eq!(lines("a = b = c"), [(1, 0, None), (0, 1, Some((3, 2))), (2, 3, None)]);
    }

    #[test]
    fn one_way_commands_make_a_cycle() {
        assert_eq!(lines("a =} b }= c"), [(1, 0, None), (0, 2, None), (2, 1, None)]);
        assert_eq!(lines("a ={ b {= c"), [(1, 0, None), (2, 1, None), (0, 2, None)]);
    }

    #[test]
    fn all_notations_can_be_mixed() {
        // a -> b -> d -> c -> a, and d <-> e.
        let expected =
            [(1, 0, None), (0, 2, None), (3, 1, None), (2, 3, Some((5, 4))), (4, 5, None)];
        assert_eq!(lines("a =} b }={ c {= d = e"), expected);
    }

    #[test]
    fn each_line_has_one_reader_and_one_writer() {
        for text in ["a = b", "a = b = c = d", "a =} b }={ c {= d = e", "a =} b }=} c }= d"] {
            let plan = read(text).expect(text);
            let alternates = plan.stages.iter().filter_map(|stage| stage.alternate);
            let ends = plan.stages.iter().map(|s| (s.input, s.output)).chain(alternates);
            let (mut reads, mut writes): (Vec<_>, Vec<_>) = ends.unzip();
            reads.sort_unstable();
            writes.sort_unstable();
            let all: Vec<_> = (0..plan.lines).collect();
            assert_eq!((reads, writes), (all.clone(), all), "{text}");
        }
    }

    #[test]
    fn what_is_no_plan_is_explained() {
        for text in
            ["", "a", "a =", "= a", "a = = b", "a =} b", "a }= b", "a =} b = c", "a =} b {= c"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
