//! What `vip_lb::network` asks of the kernel, against a real one: each test in network namespaces of its own.
//! Needs root.

mod changes;
mod host_routes;
mod lab;
mod layers;
mod neighbours;
mod routes;
mod settings;
