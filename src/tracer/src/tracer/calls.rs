//! Calls that are answered at a stop of the guest.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use nix::unistd::Pid;
use umvu_abi::{Errno, Tid};

use super::Tracer;
use crate::{
    api::{Action, Answer, Call, Completer, Guest, Subscription, Syscall, Trap, Watch},
    births, filter,
    guest::TaskGuest,
    registers::Registers,
    tasks::Task,
};

impl Tracer {
    /// A call that the base filter hands to us: a VU call of a view that is not armed, or a clone
    /// that would hide its child.
    pub(super) fn trapped(&mut self, tid: Pid) {
        if self.inside.get(&tid).is_some_and(|inside| inside.wait.is_some()) {
            return self.resume(tid, 0);
        }
        let Ok(mut registers) = Registers::read(tid) else { return self.resume(tid, 0) };
        let number = registers.number();
        let task = self.backend.tasks.get(Tid(tid.as_raw()));
        if births::is_birth(number) {
            if let Some(task) = task {
                births::show(&mut registers, &task.guest);
            }
        } else if let Ok(place) = self.backend.stopping.binary_search(&number) {
            self.look_at(tid, place, &mut registers);
        } else if number < 0 {
            let id = Tid(tid.as_raw());
            match self.answer(id, Syscall { number, args: registers.args() }) {
                Some(result) => registers.skip(result),
                // The view was armed in this instant and the guest stops for it next: its listener
                // can wait for an answer.
                None if self.control.is_armed() && !self.unreachable.contains(&id) => {
                    registers = registers.again();
                }
                None => registers.skip(Errno::ENOSYS.to_return()),
            }
        }
        let _ = registers.write(tid);
        self.resume(tid, 0);
    }

    /// A thread that is followed enters a call. Those that its filters trap stop it for themselves.
    pub(super) fn followed_call(&self, tid: Pid) {
        let Ok(mut registers) = Registers::read(tid) else { return };
        let number = registers.number();
        let goes_on = self.backend.errands.followed.makes(Tid(tid.as_raw()), number);
        let row = self.subscriptions.iter().find(|row| row.number == number);
        let moves_data = |row: &&Subscription| {
            let data = matches!(row.trap, Trap::Watched(Watch::Data | Watch::Descriptor, _));
            data && !filter::notifies(row, &registers)
        };
        if goes_on
            && row.filter(moves_data).is_some()
            && let Ok(place) = self.backend.stopping.binary_search(&number)
        {
            let id = Tid(tid.as_raw());
            let syscall = Syscall { number, args: registers.args() };
            let Some(task) = self.backend.tasks.get(id) else { return };
            // A call that is skipped here would look like one of ours to the filter.
            let action = self.handle_call(&task.guest, syscall);
            if !matches!(action, Action::Forward) {
                self.pass_on(id, &task, place, (syscall, action), &mut registers);
                let _ = registers.write(tid);
            }
        }
    }

    /// A call of a watched guest. What cannot be answered on the spot is passed on to its listener.
    fn look_at(&self, tid: Pid, place: usize, registers: &mut Registers) {
        let id = Tid(tid.as_raw());
        let syscall = Syscall { number: registers.number(), args: registers.args() };
        let Some(task) = self.backend.tasks.get(id) else { return };
        match self.handle_call(&task.guest, syscall) {
            Action::Forward => {}
            Action::Return(reply) => {
                let result = task.guest.write_all(&reply.writes).and(reply.result);
                registers.skip(result.unwrap_or_else(Errno::to_return));
            }
            action => self.pass_on(id, &task, place, (syscall, action), registers),
        }
    }

    /// Has the listener of a guest answer the call at whose entry it has stopped.
    fn pass_on(
        &self,
        id: Tid,
        task: &Task,
        place: usize,
        (syscall, action): (Syscall, Action),
        registers: &mut Registers,
    ) {
        match filter::stand_in(place) {
            Some(number) if task.listener.is_some() => {
                // Who has to wait is asked again there.
                if !matches!(action, Action::Pending) {
                    self.backend.replays.keep(id, syscall, action);
                }
                registers.replace(number, syscall.args);
            }
            _ => registers.skip(Errno::EIO.to_return()),
        }
    }

    fn handle_call(&self, guest: &Arc<TaskGuest>, syscall: Syscall) -> Action {
        let no_later = || Completer::new(Box::new(Never));
        let call =
            Call { syscall, guest: Arc::clone(guest) as Arc<dyn Guest>, defer: Arc::new(no_later) };
        let handle = AssertUnwindSafe(|| self.backend.supervisor.handle(&call));
        catch_unwind(handle).unwrap_or_else(|_| Action::error(Errno::EIO))
    }

    /// What a call returns; None when that cannot be told on the spot.
    fn answer(&self, tid: Tid, syscall: Syscall) -> Option<i64> {
        let Some(guest) = self.backend.tasks.guest(tid) else {
            return Some(Errno::ESRCH.to_return());
        };
        match self.handle_call(&guest, syscall) {
            Action::Return(reply) => {
                let result = guest.write_all(&reply.writes).and(reply.result);
                Some(result.unwrap_or_else(Errno::to_return))
            }
            _ => None,
        }
    }
}

/// No answer can come later.
pub(super) struct Never;

impl Answer for Never {
    fn answer(self: Box<Self>, _action: Action) {}

    fn cancelled(&self) -> bool {
        true
    }

    fn can_come(&self) -> bool {
        false
    }
}
