//! A hub on a desktop bus: a real one, private to each test, and programs on it that mean well or do not.

mod crowds;
mod names;
mod sessions;
mod world;
