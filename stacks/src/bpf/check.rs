//! Which programs are accepted: `bpf_check_classic` of Linux.

use umvu_abi::Errno;

use super::{
    WORDS,
    instruction::{Compute, Instruction, Operand, Operation},
    run::{ANCILLARY, Ancillary},
};

/// Errors: `EINVAL`.
pub(super) fn check(code: &[Instruction]) -> Result<(), Errno> {
    let mut memory = Stored::new(code.len());
    for (at, instruction) in code.iter().enumerate() {
        let operation = instruction.decoded().ok_or(Errno::EINVAL)?;
        fits(instruction, operation, code.len() - at - 1)?;
        memory.follow(at, instruction, operation)?;
    }
    match code.last().and_then(|last| last.decoded()) {
        Some(Operation::Return | Operation::ReturnA) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether the numbers in an instruction make sense; `left` instructions follow it.
fn fits(instruction: &Instruction, operation: Operation, left: usize) -> Result<(), Errno> {
    let k = instruction.k;
    let holds = match operation {
        Operation::Compute(Compute::Divide | Compute::Remainder, Operand::K) => k != 0,
        Operation::Compute(Compute::Left | Compute::Right, Operand::K) => k < 32,
        Operation::LoadMemory | Operation::LoadXMemory | Operation::Store | Operation::StoreX => {
            usize::try_from(k).is_ok_and(|word| word < WORDS)
        }
        Operation::Jump => usize::try_from(k).is_ok_and(|skipped| skipped < left),
        Operation::Branch(..) => {
            usize::from(instruction.jump_true.max(instruction.jump_false)) < left
        }
        Operation::Absolute(_) => k < ANCILLARY || Ancillary::of(k).is_some(),
        _ => true,
    };
    if holds { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Which words of the memory have been stored on every way to an instruction.
struct Stored {
    here: u16,
    at: Vec<u16>,
}

impl Stored {
    fn new(length: usize) -> Self {
        Self { here: 0, at: vec![u16::MAX; length] }
    }

    fn follow(
        &mut self,
        at: usize,
        instruction: &Instruction,
        operation: Operation,
    ) -> Result<(), Errno> {
        self.here &= self.at[at];
        let word = 1_u16.checked_shl(instruction.k).unwrap_or(0);
        match operation {
            Operation::Store | Operation::StoreX => self.here |= word,
            Operation::LoadMemory | Operation::LoadXMemory if self.here & word == 0 => {
                return Err(Errno::EINVAL);
            }
            Operation::Jump => self.jumps(at, &[usize::try_from(instruction.k).unwrap_or(0)]),
            Operation::Branch(..) => {
                let ways = [instruction.jump_true, instruction.jump_false].map(usize::from);
                self.jumps(at, &ways);
            }
            _ => {}
        }
        Ok(())
    }

    fn jumps(&mut self, at: usize, ways: &[usize]) {
        for way in ways {
            if let Some(stored) = self.at.get_mut(at + 1 + way) {
                *stored &= self.here;
            }
        }
        self.here = u16::MAX;
    }
}
