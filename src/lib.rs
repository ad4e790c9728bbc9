//! lastword is an AI token-streaming gateway: an answer is recorded while it is generated, and any reader that was cut off
//! comes back with the id of the last event it saw and misses nothing.
//!
//! The modules below stand in reading order; `docs/ARCHITECTURE.md` tells the story of a token.

pub mod duration;
pub mod event;
pub mod id;
pub mod near;
pub mod prompt;
pub mod record;

pub mod backend;
pub mod cli;
pub mod client;
pub mod config;
pub mod gateway;
pub mod protocol;
pub mod route;
pub mod server;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod wire;
