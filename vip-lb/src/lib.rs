//! The vip-lb daemon as a library: one module per capability.

pub mod api;
pub mod backend;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod doctor;
pub mod health;
pub mod metrics;
pub mod nat;
pub mod network;
pub mod ownership;
pub mod peering;
pub mod privileges;
pub mod secret;
pub mod state;
pub mod steering;
