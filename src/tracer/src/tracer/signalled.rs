//! What a signal does to the call that a guest is in.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use nix::{sys::ptrace, unistd::Pid};
use umvu_abi::Tid;

use super::{Tracer, calls::Never};
use crate::{
    again,
    api::{Call, Completer, Syscall},
    filter,
    registers::{ERESTARTNOINTR, ERESTARTSYS, Registers},
    replay::Standing,
};

impl Tracer {
    /// A signal is about to be delivered.
    pub(super) fn signalled(&mut self, tid: Pid, signal: i32) {
        if self.armed_at.is_some()
            && self.stops.is_none()
            && let Some(guest) = self.backend.tasks.guest(Tid(tid.as_raw()))
            && !guest.turn.interrupt()
        {
            return self.put_off.push((tid, signal));
        }
        self.backend.errands.forget(Tid(tid.as_raw()));
        self.take_back_wait(tid);
        if let Some(stops) = &mut self.stops {
            stops.respites.signalled(tid);
        }
        if matches!(signal, libc::SIGSEGV | libc::SIGBUS) && self.goes_on_after(tid) {
            return self.resume(tid, 0);
        }
        if self.armed_at.is_some()
            && let Ok(mut registers) = Registers::read(tid)
            && registers.result() == ERESTARTSYS
            && !self.interrupts(tid, &registers)
        {
            // Linux would not interrupt this call: it is made again whatever the handler's flags.
            registers.set_result(ERESTARTNOINTR);
            let _ = registers.write(tid);
        } else if self.armed_at.is_some()
            && self.stops.is_none()
            && let Some(task) = self.backend.tasks.get(Tid(tid.as_raw()))
        {
            again::restart(tid, &task.guest);
        }
        self.resume(tid, signal);
    }

    /// Whether Linux too may interrupt the call that a signal has taken back. One that has waited
    /// for nothing but its handler's decision it would not.
    fn interrupts(&mut self, tid: Pid, registers: &Registers) -> bool {
        let made = registers.number();
        let watched = filter::stood_for(made).and_then(|at| self.backend.stopping.get(at));
        let number = watched.copied().unwrap_or(made);
        let mut rows = self.subscriptions.iter();
        let Some(row) = rows.find(|row| row.number == number).copied() else { return true };
        let syscall = Syscall { number, args: registers.args() };
        let id = Tid(tid.as_raw());
        let standing = match &self.stops {
            Some(stops) => stops.taken_back(id, &syscall),
            None if number == made && !filter::notifies(&row, registers) => Standing::Kernels,
            None => self.backend.replays.taken_back(id, &syscall),
        };
        match standing {
            _ if !row.interruptible => false,
            Standing::Undecided => false,
            Standing::Waiting => true,
            Standing::Kernels => self.may_wait(id, syscall),
            Standing::Working if !self.may_wait(id, syscall) => false,
            Standing::Working => {
                // The next call with these arguments may name another file.
                if row.path.is_some() {
                    self.abandon(id);
                }
                true
            }
        }
    }

    fn abandon(&mut self, tid: Tid) {
        match &mut self.stops {
            Some(stops) => stops.abandon(tid),
            None => {
                if let Some(deferred) = self.backend.replays.take(tid) {
                    deferred.abandon();
                }
            }
        }
    }

    fn may_wait(&self, tid: Tid, syscall: Syscall) -> bool {
        let Some(guest) = self.backend.tasks.guest(tid) else { return true };
        let call = Call { syscall, guest, defer: Arc::new(|| Completer::new(Box::new(Never))) };
        let ask = AssertUnwindSafe(|| self.backend.supervisor.may_wait(&call));
        catch_unwind(ask).unwrap_or(true)
    }

    /// A fault in our own code in a guest is not the guest's: it goes on there, and the call is
    /// trapped.
    fn goes_on_after(&self, tid: Pid) -> bool {
        let of_the_kernel = |tid| ptrace::getsiginfo(tid).is_ok_and(|info| info.si_code > 0);
        if let Ok(mut registers) = Registers::read(tid)
            && let Some(place) = self.backend.shortcuts.after_fault(registers.counter())
            && of_the_kernel(tid)
        {
            registers.go_to(place);
            return registers.write(tid).is_ok();
        }
        false
    }

    /// A signal comes before a guest has made the call in place of its own: it makes its own again.
    fn take_back_wait(&mut self, tid: Pid) {
        if self.inside.get(&tid).is_some_and(|inside| inside.wait.is_some())
            && let Some(inside) = self.inside.remove(&tid)
        {
            self.backend.errands.left_wait(Tid(tid.as_raw()));
            let _ = inside.before.again().write(tid);
        }
    }
}
