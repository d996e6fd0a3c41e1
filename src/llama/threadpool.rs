//! ggml's compute threads: an explicit pool that names its cores.
//!
//! Threads inherit the affinity of whoever creates them. The batching thread is pinned, so without a mask of its own
//! every ggml worker would land on that one core.

use llama_cpp_sys_2 as sys;

use super::shim::{self, ShimError};

/// What the pool needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadpoolParams {
    /// Threads including the one that calls `decode`, at least 1.
    pub threads: usize,
    /// Cores the threads are pinned to, in thread order; empty leaves placement to the kernel.
    pub cores: Vec<usize>,
    /// 0..=100: how long a worker polls for the next graph before it sleeps.
    pub poll: u32,
}

/// An owned ggml threadpool. Used by one context only.
pub(super) struct Threadpool {
    raw: *mut sys::ggml_threadpool,
}

impl Threadpool {
    pub fn new(params: &ThreadpoolParams) -> Result<Threadpool, ShimError> {
        let threads = i32::try_from(params.threads.max(1)).unwrap_or(1);
        // SAFETY: a pure function that fills a struct by value.
        let mut raw_params = unsafe { sys::ggml_threadpool_params_default(threads) };
        for &core in &params.cores {
            if let Some(flag) = raw_params.cpumask.get_mut(core) {
                *flag = true;
            }
        }
        raw_params.strict_cpu = params.cores.len() >= params.threads;
        raw_params.poll = params.poll;
        let mut raw = std::ptr::null_mut();
        // SAFETY: both pointers are valid for the call; the handle is wrapped at once.
        shim::call(|err, len| unsafe { shim::cllm_threadpool_new(&raw_params, &mut raw, err, len) })?;
        Ok(Threadpool { raw })
    }

    /// Puts the workers to sleep; the next graph wakes them. Costs a futex call or two either way.
    pub fn pause(&self) {
        // SAFETY: the pool lives, and only the thread that computes on it pauses it.
        unsafe { sys::ggml_threadpool_pause(self.raw) }
    }

    pub fn as_ptr(&self) -> *mut sys::ggml_threadpool {
        self.raw
    }
}

impl Drop for Threadpool {
    fn drop(&mut self) {
        // SAFETY: made by ggml_threadpool_new, freed once; the context detached it before.
        unsafe { sys::ggml_threadpool_free(self.raw) }
    }
}
