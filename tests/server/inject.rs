//! Makes system calls in threads of another process: a thread that waits in the kernel is stopped and made to execute
//! another call, under its own restrictions; then it continues as before. On x86-64.

use std::io;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// An argument: a number, or bytes that the thread can point to.
#[derive(Clone, Copy)]
pub enum Arg<'a> {
    Number(i64),
    Bytes(&'a [u8]),
}

/// Below the red zone of the stack, which no code uses.
const SCRATCH: u64 = 4_096;
/// The instruction `syscall` as bytes in memory.
const SYSCALL: i64 = 0x050f;

/// A stopped thread that was waiting in the kernel. It continues when this value is dropped.
pub struct Stopped {
    thread: Pid,
    before: libc::user_regs_struct,
}

impl Stopped {
    /// Stops the thread `id`. If it isn't in a system call, lets it run and tries again.
    pub fn at(id: i32) -> Stopped {
        let thread = Pid::from_raw(id);
        for _ in 0..10_000 {
            ptrace::seize(thread, Options::empty()).expect("a thread of ours can be traced");
            ptrace::interrupt(thread).expect("it can be stopped");
            waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
            let before = ptrace::getregs(thread).expect("it has registers");
            let stopped = Stopped { thread, before };
            let code = ptrace::read(thread, (before.rip - 2) as ptrace::AddressType).expect("its code can be read");
            if code & 0xffff == SYSCALL {
                return stopped;
            }
            drop(stopped);
            std::thread::yield_now();
        }
        panic!("thread {id} never waits");
    }

    /// Makes the thread execute the call `number` and returns the kernel's result.
    pub fn call(&self, number: i64, args: &[Arg]) -> io::Result<i64> {
        let mut regs = self.before;
        let mut free = (self.before.rsp - SCRATCH) & !15;
        let mut values = [0; 6];
        for (value, arg) in values.iter_mut().zip(args) {
            *value = match *arg {
                Arg::Number(number) => number as u64,
                Arg::Bytes(bytes) => {
                    free -= (bytes.len() as u64 + 16) & !15;
                    for (i, word) in bytes.chunks(8).enumerate() {
                        let mut whole = [0; 8];
                        whole[..word.len()].copy_from_slice(word);
                        let at = (free + 8 * i as u64) as ptrace::AddressType;
                        ptrace::write(self.thread, at, i64::from_le_bytes(whole)).expect("its stack can be written");
                    }
                    free
                }
            };
        }
        regs.rip -= 2;
        regs.rax = number as u64;
        // Marks that the thread is in no system call that the kernel would restart.
        regs.orig_rax = u64::MAX;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = values;
        ptrace::setregs(self.thread, regs).expect("it takes registers");
        ptrace::step(self.thread, None).expect("it makes a step");
        waitpid(self.thread, Some(WaitPidFlag::__WALL)).expect("it stops again");
        let result = ptrace::getregs(self.thread).expect("it has registers").rax as i64;
        match result {
            -4_095..=-1 => Err(io::Error::from_raw_os_error(-result as i32)),
            _ => Ok(result),
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = ptrace::setregs(self.thread, self.before);
        let _ = ptrace::detach(self.thread, None);
    }
}
