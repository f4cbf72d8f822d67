//! The vip-lb daemon as a library: one module per capability.

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod health;
pub mod metrics;
pub mod nat;
pub mod network;
pub mod state;
pub mod steering;
