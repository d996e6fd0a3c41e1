//! Passes llama.cpp's log on to `tracing`, and initialises llama.cpp after that.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use llama_cpp_sys_2 as sys;

thread_local! {
    /// The latest error line that llama.cpp logged on this thread. It explains a null handle.
    static LAST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Returns the latest error line of this thread, and forgets it.
pub(super) fn take_last_error() -> Option<String> {
    LAST_ERROR.with(|last| last.borrow_mut().take())
}

/// Initialises llama.cpp once. Its log then goes to `tracing` with the target `llama.cpp`.
pub fn backend_init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `on_log` has the signature that llama.cpp expects and is never unloaded. No other call of llama.cpp is
        // running yet.
        unsafe {
            // Otherwise a failed assertion in ggml forks a debugger that prints a backtrace while all threads are stopped.
            std::env::set_var("GGML_NO_BACKTRACE", "1");
            sys::llama_log_set(Some(on_log), std::ptr::null_mut());
            sys::llama_backend_init();
        }
        super::matrix::install();
    });
}

/// The instruction sets and backends that ggml was built with, in ggml's words.
pub fn system_info() -> String {
    // SAFETY: returns a pointer to a static, NUL-terminated string.
    let info = unsafe { CStr::from_ptr(sys::llama_print_system_info()) };
    info.to_string_lossy().trim().trim_end_matches('|').trim().to_owned()
}

/// Called by llama.cpp from any of its threads. Must not panic or unwind.
extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _user: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let line = text.trim_end();
    if line.is_empty() || line.chars().all(|c| c == '.') {
        return;
    }
    match level {
        sys::GGML_LOG_LEVEL_ERROR => {
            // The first error line names the cause. Later lines only name the functions that failed because of it.
            LAST_ERROR.with(|last| {
                last.borrow_mut().get_or_insert_with(|| line.to_owned());
            });
            tracing::debug!(target: "llama.cpp", "{line}");
        }
        sys::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama.cpp", "{line}"),
        _ => tracing::trace!(target: "llama.cpp", "{line}"),
    }
}
