//! One instruction: `struct sock_filter` (linux/filter.h), and the codes that Linux knows.

use std::num::NonZeroU32;

use super::run::Ancillary;

/// An instruction of the classic machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) k: u32,
}

impl Instruction {
    pub(super) fn decode(bytes: [u8; 8]) -> Self {
        let [c0, c1, jump_true, jump_false, k0, k1, k2, k3] = bytes;
        Self {
            code: u16::from_ne_bytes([c0, c1]),
            jump_true,
            jump_false,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        }
    }

    pub(super) fn encode(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jump_true, self.jump_false, k0, k1, k2, k3]
    }

    /// Whether it loads this.
    pub(super) fn asks_for(self, what: Ancillary) -> bool {
        matches!(self.decoded(), Some(Operation::Absolute(_)))
            && Ancillary::of(self.k) == Some(what)
    }

    /// What the instruction does; None for a code that Linux refuses.
    pub(super) fn decoded(self) -> Option<Operation> {
        use Operation as O;
        let operand = |code: u16| if code & 8 == 0 { Operand::K } else { Operand::X };
        let size = match self.code & 0x18 {
            0x00 => Size::Word,
            0x08 => Size::Half,
            _ => Size::Byte,
        };
        Some(match self.code {
            0x00 => O::Load(self.k),
            0x01 => O::LoadX(self.k),
            0x20 | 0x28 | 0x30 => O::Absolute(size),
            0x40 | 0x48 | 0x50 => O::Indirect(size),
            0x60 => O::LoadMemory,
            0x61 => O::LoadXMemory,
            0x80 => O::LoadLength,
            0x81 => O::LoadXLength,
            0xb1 => O::LoadXHeader,
            0x02 => O::Store,
            0x03 => O::StoreX,
            0x84 => O::Negate,
            0x05 => O::Jump,
            0x15 | 0x1d => O::Branch(Test::Equal, operand(self.code)),
            0x25 | 0x2d => O::Branch(Test::Greater, operand(self.code)),
            0x35 | 0x3d => O::Branch(Test::GreaterOrEqual, operand(self.code)),
            0x45 | 0x4d => O::Branch(Test::AnyBit, operand(self.code)),
            0x06 => O::Return,
            0x16 => O::ReturnA,
            0x07 => O::TakeX,
            0x87 => O::TakeA,
            code if code & 7 == 4 && code < 0x100 => {
                O::Compute(Compute::of(code & 0xf0)?, operand(code))
            }
            _ => return None,
        })
    }
}

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Load(u32),
    LoadX(u32),
    Absolute(Size),
    Indirect(Size),
    LoadMemory,
    LoadXMemory,
    LoadLength,
    LoadXLength,
    /// X becomes the length of an IPv4 header.
    LoadXHeader,
    Store,
    StoreX,
    Compute(Compute, Operand),
    Negate,
    Jump,
    Branch(Test, Operand),
    Return,
    ReturnA,
    TakeX,
    TakeA,
}

/// How much a load takes from the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Word,
    Half,
    Byte,
}

/// The second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    K,
    X,
}

/// The tests of a branch, of unsigned numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

impl Test {
    pub(super) fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::AnyBit => a & b != 0,
        }
    }
}

/// The arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compute {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    Xor,
    Left,
    Right,
}

impl Compute {
    fn of(bits: u16) -> Option<Self> {
        Some(match bits {
            0x00 => Self::Add,
            0x10 => Self::Subtract,
            0x20 => Self::Multiply,
            0x30 => Self::Divide,
            0x40 => Self::Or,
            0x50 => Self::And,
            0x60 => Self::Left,
            0x70 => Self::Right,
            0x90 => Self::Remainder,
            0xa0 => Self::Xor,
            _ => return None,
        })
    }

    /// The result; None for a division by 0, which ends the program.
    pub(super) fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Subtract => a.wrapping_sub(b),
            Self::Multiply => a.wrapping_mul(b),
            Self::Divide => a / NonZeroU32::new(b)?,
            Self::Remainder => a % NonZeroU32::new(b)?,
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            // Linux shifts by the low five bits.
            Self::Left => a.wrapping_shl(b),
            Self::Right => a.wrapping_shr(b),
        })
    }
}
