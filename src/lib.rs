//! lastword

pub mod api;
pub mod server;
