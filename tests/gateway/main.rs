//! A whole lastword, seen from its clients' side. One program, so that it is linked once.

mod api;
mod auth;
mod chat;
mod claims;
mod common;
mod crowd;
mod crowded;
mod disk;
mod drain;
mod ending;
mod faults;
mod forgotten;
mod messages;
mod models;
mod pass;
mod relay;
mod reload;
mod responses;
mod resume;
mod slow;
mod smoke;
mod storm;
mod upgrade;
mod webhooks;
