//! The manager of a hub with everything on it: started, followed, attacked, ended.

mod attacks;
mod following;
mod handlers;
mod life;
mod metrics;
mod parts;
mod standard;
mod world;
