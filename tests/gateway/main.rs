//! A whole lastword, seen from its clients' side. One program, so that it is linked once.

mod api;
mod chat;
mod claims;
mod common;
mod crowd;
mod drain;
mod ending;
mod models;
mod pass;
mod proxy;
mod resume;
mod slow;
mod smoke;
