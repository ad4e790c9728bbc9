//! lastword

pub mod wire;
