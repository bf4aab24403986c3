//! Which release this is, and of which commit: what `--version`, the log and `unstale_build_info` say.

use std::sync::LazyLock;

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, as `build.rs` tells the compiler.
pub const COMMIT: &str = env!("BUILT_COMMIT");

/// Both, for people.
static BOTH: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (commit {COMMIT})"));

/// The release and its commit, for people.
pub fn both() -> &'static str {
    &BOTH
}
