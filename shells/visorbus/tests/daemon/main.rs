//! The hub's program as a whole, attacked: by its files, by its neighbours, by those it serves.

mod boards;
mod crowds;
mod files;
mod house;
mod inherited;
mod journal;
mod lines;
#[allow(dead_code)]
#[path = "../cli/place.rs"]
mod place;
mod rights;
mod secrets;
mod silence;
mod troubles;
