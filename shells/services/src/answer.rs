//! A request in whichever form it came, and its answer in the same: postcard, JSON or TOML.
