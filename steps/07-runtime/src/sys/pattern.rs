//! Regular expressions, as the C library has them (man 7 regex, "extended"; man 3 regcomp).

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// An expression that has been understood.
pub struct Pattern(libc::regex_t);

impl Pattern {
    /// Understands an expression.
    ///
    /// # Errors
    /// What is wrong in it, in the C library's words.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let text = CString::new(text).map_err(|_| "a NUL in it".to_owned())?;
        let mut compiled = MaybeUninit::<libc::regex_t>::uninit();
        // SAFETY: the text ends with a NUL, and regcomp writes no more than one regex_t.
        let code = unsafe { libc::regcomp(compiled.as_mut_ptr(), text.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if code == 0 {
            // SAFETY: regcomp has filled it.
            return Ok(Pattern(unsafe { compiled.assume_init() }));
        }
        let mut reason = [0_u8; 128];
        // SAFETY: regerror writes at most as many bytes as there is room for, and takes what a failed regcomp has left.
        unsafe { libc::regerror(code, compiled.as_ptr(), reason.as_mut_ptr().cast(), reason.len()) };
        let reason = CStr::from_bytes_until_nul(&reason).unwrap_or_default();
        Err(reason.to_string_lossy().to_lowercase())
    }

    /// Whether a part of the text fits.
    pub fn fits(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: it has been compiled, the text ends with a NUL, and no matches are asked for.
        unsafe { libc::regexec(&self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        // SAFETY: it has been compiled, and is not used any more.
        unsafe { libc::regfree(&mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_crun_takes_them() {
        let fits = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().fits(text);
        assert!(fits("web", "my-web-1") && fits("^web-[0-9]+$", "web-12") && fits("^(a|b)$", "b"));
        assert!(!fits("^web$", "web-1") && !fits("^web-[0-9]+$", "web-x"));
        for wrong in ["(", "a[", "a{2", "*(", "a\0"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
