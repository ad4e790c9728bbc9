//! What a reader gets through other people's proxies, as Debian packs them and as docs/proxies.md configures them: each token at once, an
//! answer that outlasts silence and cuts, and never half an answer that looks whole. What that page says of a proxy is held here.

#[path = "../gateway/common/mod.rs"]
#[expect(dead_code, reason = "shared with the gateway's tests, which use all of it")]
mod common;
mod compression;
mod cuts;
mod delays;
mod endings;
#[path = "../fake/mod.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the backends' tests, which use all of it")]
mod fake;
mod kinds;
mod nginx;
mod page;
mod proxy;
mod silence;
mod through;
mod tokens;

/// The fake upstream's.
const KEY: &str = "key";

/// Whether this is the long form of the tests.
fn full() -> bool {
    std::env::var("LASTWORD_TEST").is_ok_and(|form| form == "full")
}
