//! lastword
