//! Sockets, and what is assembled on them.

pub mod accept;
mod answer;
mod io;
mod link;
mod stream;
