//! ggml's compute threads: a pool that names the cores to run on.
//!
//! A thread inherits the affinity of the thread that creates it. The batching thread is pinned, so without a mask of its
//! own every ggml worker would run on that one core.

use llama_cpp_sys_2 as sys;

use super::shim::{self, ShimError};

/// The parameters of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadpoolParams {
    /// Threads, including the one that calls `decode`. At least 1.
    pub threads: usize,
    /// Cores to pin the threads to, in the order of threads. Empty: the kernel decides.
    pub cores: Vec<usize>,
    /// How long a worker polls for the next graph before it sleeps: ggml's scale of 0..=100.
    pub poll: u32,
}

/// An owned ggml threadpool. Only one context may use it.
pub(super) struct Threadpool {
    raw: *mut sys::ggml_threadpool,
}

impl Threadpool {
    /// Starts the pool's threads.
    ///
    /// # Errors
    /// ggml can't start them.
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

    /// Puts the workers to sleep. The next graph wakes them. Each costs about two futex calls.
    pub fn pause(&self) {
        // SAFETY: the pool is live, and only the thread that computes on it pauses it.
        unsafe { sys::ggml_threadpool_pause(self.raw) }
    }

    /// The handle, valid as long as the pool.
    pub fn as_ptr(&self) -> *mut sys::ggml_threadpool {
        self.raw
    }
}

impl Drop for Threadpool {
    fn drop(&mut self) {
        // SAFETY: made by ggml_threadpool_new, freed once. The context was detached from it before.
        unsafe { sys::ggml_threadpool_free(self.raw) }
    }
}
