//! Monitoring: what is measured, what was, and what is to be worried about.
