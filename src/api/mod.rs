//! The routes of every client surface.

pub mod connection;
