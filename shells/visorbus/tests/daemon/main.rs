//! The hub's program as a whole, attacked: by its files, by its neighbours, by those it serves.

mod crowds;
mod files;
mod house;
mod journal;
#[allow(dead_code)]
#[path = "../cli/place.rs"]
mod place;
mod rights;
mod secrets;
mod troubles;
