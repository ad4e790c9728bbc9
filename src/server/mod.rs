//! Stands in for the listeners until they are merged.

pub mod config;

/// Serves until told to stop.
///
/// # Errors
/// When an address cannot be listened on.
#[expect(clippy::unused_async, reason = "a stand-in")]
pub async fn run(config: crate::config::Config) -> anyhow::Result<()> {
    anyhow::bail!("nothing listens on {} yet", config.server.listen)
}
