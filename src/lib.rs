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
pub mod seldom;
pub mod stamp;
pub mod template;

pub mod store;
pub mod stream;

pub mod protocol;
pub mod wire;

pub mod auth;
pub mod backend;
pub mod client;
pub mod route;

pub mod gateway;
pub mod generation;
pub mod telemetry;

pub mod api;
pub mod config;
pub mod server;
pub mod webhook;

pub mod cli;
