//! IP as bytes, below any stack: headers, fragments, TCP segments, buffers, and the device through
//! which smoltcp serves as a TCP engine. What packets mean is the business of those who use it: the
//! stacks of umvu, and `slirp/` here.

pub mod device;
pub mod fragment;
pub mod hash;
pub mod icmp;
pub mod packet;
pub mod pool;
pub mod reassembly;
pub mod segment;
