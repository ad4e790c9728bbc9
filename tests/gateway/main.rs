//! A whole lastword, seen from its clients' side. One program, so that it is linked once.

mod common;
mod proxy;
mod smoke;
